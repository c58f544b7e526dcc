package gateway

import (
	"log/slog"
	"sync"

	"culvert/internal/state/store"
)

// state is the store of what outlives the process. It is opened when it is first needed. It is
// safe for concurrent use.
type state struct {
	log  *slog.Logger
	open func() (store.Store, error)

	mu    sync.Mutex
	store store.Store // nil: not open
}

func (s *state) get() (store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		opened, err := s.open()
		if err != nil {
			return nil, err
		}
		s.store = opened
	}
	return s.store, nil
}

func (s *state) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store != nil
}

// close closes the store after its last use.
func (s *state) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return
	}
	if err := s.store.Close(); err != nil {
		s.log.Error(err.Error()) // the gateway still ends without an error
	}
	s.store = nil
}

// part closes a store that was opened for a configuration that is then refused, because another
// gateway may need the file.
func (s *state) part() part {
	was := true
	return part{
		name:    "state",
		prepare: func(*change) error { was = s.isOpen(); return nil },
		revert: func(*change) {
			if !was {
				s.close()
			}
		},
	}
}
