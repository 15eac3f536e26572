package agent

import (
	"reflect"
	"sync"

	"github.com/soe-agent/soe-agent/internal/source"
)

// link is the connection to AWS. It is kept for as long as its configuration and region stay the same.
type link struct {
	mu     sync.Mutex
	aws    *source.AWS // nil before the first connection
	config source.Config
	region string
	afresh bool // it is to be reset before its next use
}

// to returns the connection for a configuration. It makes a new one if the configuration or region has changed,
// and resets it if forget was called: after a sleep of the machine, or when somebody asks for a reload.
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

// forget makes the next call of to reset the connection.
func (l *link) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.afresh = true
}

// last returns the present connection; nil if there was none.
func (l *link) last() *source.AWS {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aws
}
