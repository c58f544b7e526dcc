package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Store is a set of buckets. It is safe for concurrent use.
type Store interface {
	// Update runs f in a transaction. If f returns an error nothing has changed,
	// and Update returns it. Otherwise all of it holds when Update returns nil, and is
	// durable, unless the disk fails or is late: see Open. f must not use the store
	// but through tx.
	Update(f func(tx Tx) error) error
	// View runs f over one state; f must not write.
	View(f func(tx Tx) error) error
	Close() error
}

// Tx is a transaction. Slices that it hands out are valid until its end.
type Tx interface {
	// Get is nil where there is no such key.
	Get(bucket string, key []byte) []byte
	Put(bucket string, key, value []byte) error
	Delete(bucket string, key []byte) error
	// Each calls f for every key of a bucket in order; an error of f ends it.
	// f must not write.
	Each(bucket string, f func(key, value []byte) error) error
}

var (
	errReadOnly = errors.New("store: a write within View")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store: closed")
)

// maxKey is what the file takes as a key, in bytes.
const maxKey = 32768

// changes are values by bucket and key; nil: the key is deleted.
type changes map[string]map[string][]byte

func (c changes) set(bucket, key string, value []byte) {
	if c[bucket] == nil {
		c[bucket] = map[string][]byte{}
	}
	c[bucket][key] = value
}

// Memory is a Store that keeps nothing beyond the process. Its zero value is ready.
type Memory struct {
	mu      sync.Mutex
	buckets changes // without nil
	closed  bool
	// changed, where it is set, is called with what a transaction changed, in the
	// order of transactions.
	changed func(changes)
}

// Update runs a transaction that may write. If f fails, nothing is changed.
func (m *Memory) Update(f func(Tx) error) error { return m.run(f, true) }

// View runs a transaction that only reads.
func (m *Memory) View(f func(Tx) error) error { return m.run(f, false) }

// Close makes later transactions fail.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *Memory) run(f func(Tx) error, write bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	tx := &memoryTx{m: m, write: write, before: changes{}}
	done := false
	defer func() {
		if !done {
			tx.undo()
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	done = true
	if m.changed != nil && len(tx.before) > 0 {
		m.changed(tx.now())
	}
	return nil
}

// all is a copy of the buckets; their values are shared and never changed.
func (m *Memory) all() changes {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := changes{}
	for name, b := range m.buckets {
		c[name] = maps.Clone(b)
	}
	return c
}

// memoryTx changes the buckets and remembers what they had.
type memoryTx struct {
	m      *Memory
	write  bool
	before changes
}

func (t *memoryTx) Get(bucket string, key []byte) []byte { return t.m.buckets[bucket][string(key)] }

func (t *memoryTx) Put(bucket string, key, value []byte) error {
	if !t.write {
		return errReadOnly
	}
	if bucket == "" || len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("store: a key of %d bytes in bucket %q, accepted: 1 to %d, and a name", len(key), bucket, maxKey)
	}
	t.remember(bucket, string(key))
	if t.m.buckets == nil {
		t.m.buckets = changes{}
	}
	t.m.buckets.set(bucket, string(key), append([]byte{}, value...))
	return nil
}

func (t *memoryTx) Delete(bucket string, key []byte) error {
	if !t.write {
		return errReadOnly
	}
	if t.m.buckets[bucket][string(key)] != nil {
		t.remember(bucket, string(key))
		delete(t.m.buckets[bucket], string(key))
	}
	return nil
}

func (t *memoryTx) Each(bucket string, f func(key, value []byte) error) error {
	b := t.m.buckets[bucket]
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if err := f([]byte(k), bytes.Clone(b[k])); err != nil {
			return err
		}
	}
	return nil
}

func (t *memoryTx) remember(bucket, key string) {
	if _, known := t.before[bucket][key]; !known {
		t.before.set(bucket, key, t.m.buckets[bucket][key])
	}
}

// undo puts back what was there.
func (t *memoryTx) undo() {
	for bucket, keys := range t.before {
		for key, value := range keys {
			if value == nil {
				delete(t.m.buckets[bucket], key)
			} else {
				t.m.buckets.set(bucket, key, value)
			}
		}
	}
}

// now is what the transaction changed, as it is.
func (t *memoryTx) now() changes {
	c := changes{}
	for bucket, keys := range t.before {
		for key := range keys {
			c.set(bucket, key, t.m.buckets[bucket][key])
		}
	}
	return c
}
