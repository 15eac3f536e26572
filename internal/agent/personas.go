package agent

import (
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/persona"
	"github.com/soe-agent/soe-agent/internal/public"
)

// personas holds which personas the machine has, and why.
type personas struct {
	mu        sync.Mutex
	rules     []public.Line // as in the status
	doubts    []public.Line
	selection *persona.Selection // the last one with which AWS was asked since the start
}

// selected records the result of the rules of a configuration.
func (p *personas) selected(c Config, s persona.Selection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.doubts = nil, c.doubts(s)
	for _, why := range s.Why {
		name, _, _ := strings.Cut(why, ": ")
		p.rules = append(p.rules, c.line(why, name+": root's status says why"))
	}
}

// asked records the selection with which AWS is asked.
func (p *personas) asked(s persona.Selection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.selection = &s
}

// lastAsked returns the last selection with which AWS was asked; nil if there was none.
func (p *personas) lastAsked() *persona.Selection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.selection
}

// said returns which rule gave which persona, and what could not be determined.
func (p *personas) said() (rules, doubts []public.Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules, p.doubts
}
