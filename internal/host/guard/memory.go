package guard

import (
	"os"
	"slices"
	"sync"
)

// Memory is a Guard that only remembers. Safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	plans    []Plan
	closed   bool
	changed  chan struct{}
	differ   []string
	by       []string
	restored int
	// Leftover: see Left.
	Leftover bool
}

// Left is Leftover.
func (m *Memory) Left() bool { return m.Leftover }

// Apply records the plan.
func (m *Memory) Apply(p Plan) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return os.ErrClosed
	}
	p.Ports, p.Flows = slices.Clone(p.Ports), slices.Clone(p.Flows)
	m.plans = append(m.plans, p)
	return nil
}

// Plans are all plans so far, oldest first.
func (m *Memory) Plans() []Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.plans)
}

// Counts are zero: no packet passes it.
func (m *Memory) Counts() (Counts, error) { return Counts{}, nil }

func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Leave ends without taking the guard away.
func (m *Memory) Leave() error { return nil }

// Closed tells whether Close was called.
func (m *Memory) Closed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// Changed delivers after Disturb.
func (m *Memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{}, 1)
	}
	return m.changed
}

// Disturb is somebody who changes what Apply made: differ says what.
func (m *Memory) Disturb(by string, differ ...string) {
	m.Changed()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.differ = append(m.differ, differ...)
	if by != "" {
		m.by = append(m.by, by)
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Differences are what Disturb was given since the last Restore.
func (m *Memory) Differences() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.differ), nil
}

// Restore puts right what Disturb was given.
func (m *Memory) Restore() (restored, by []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restored++
	restored, by, m.differ, m.by = m.differ, m.by, nil, nil
	return restored, by, nil
}
