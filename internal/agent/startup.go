package agent

import "sync"

// startup is how far this run of the agent has come.
type startup struct {
	mu                 sync.Mutex
	lockedDown         bool
	announced          bool // that the machine is configured
	earlierTransaction bool // a package transaction that an earlier run has begun goes on
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

// announce says whether it was called for the first time.
func (s *startup) announce() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, s.announced = !s.announced, true
	return first
}

// transaction notes whether an earlier run's goes on, and returns what was noted before.
func (s *startup) transaction(goesOn bool) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.earlierTransaction = s.earlierTransaction, goesOn
	return before
}

// awaitsTransaction says whether it goes on.
func (s *startup) awaitsTransaction() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.earlierTransaction
}
