package agent

import "sync"

// startup records how far this run of the agent has come.
type startup struct {
	mu                 sync.Mutex
	lockedDown         bool
	announced          bool // soe-configured.target was started
	earlierTransaction bool // a package transaction that an earlier run began is still running
}

func (s *startup) markLockedDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lockedDown = true
}

func (s *startup) isLockedDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lockedDown
}

// announce returns true the first time that it is called.
func (s *startup) announce() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, s.announced = !s.announced, true
	return first
}

// transaction records whether an earlier run's transaction is still running, and returns what was
// recorded before.
func (s *startup) transaction(goesOn bool) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.earlierTransaction = s.earlierTransaction, goesOn
	return before
}

// awaitsTransaction says whether it is still running.
func (s *startup) awaitsTransaction() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.earlierTransaction
}
