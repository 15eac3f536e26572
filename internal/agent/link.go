package agent

import (
	"reflect"
	"sync"

	"github.com/soe-agent/soe-agent/internal/source"
)

// link is the connection to AWS. It is kept for as long as what it was made for stays.
type link struct {
	mu     sync.Mutex
	aws    *source.AWS // nil before the first
	config source.Config
	region string
	afresh bool // it is to forget what it has learnt
}

// to is the connection for a configuration. It is made anew when that changes, and starts
// afresh when the machine has slept or somebody asks.
func (l *link) to(config source.Config, region string, connect func() (*source.AWS, error)) (*source.AWS, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.aws == nil || l.region != region || !reflect.DeepEqual(l.config, config) {
		aws, err := connect()
		if err != nil {
			return nil, err
		}
		l.aws, l.config, l.region = aws, config, region
	} else if l.afresh {
		l.aws.Reset()
	}
	l.afresh = false
	return l.aws, nil
}

// forget has it trust nothing that it knows, the next time that it is asked for.
func (l *link) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.afresh = true
}

// last is the one that there is; nil if there was none.
func (l *link) last() *source.AWS {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aws
}
