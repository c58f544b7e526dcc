// Package store keeps what has to outlive the process: a few buckets of keys and
// values, in one file (Open) or in memory (Memory).
package store

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Store is a set of buckets. It is safe for concurrent use.
type Store interface {
	// Update runs f in a transaction. If f returns an error nothing has changed;
	// otherwise all of it is durable when Update returns nil, and none of it where
	// Update returns an error. f must not use the store but through tx.
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

// Memory is a Store that keeps nothing beyond the process. Its zero value is ready.
type Memory struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
	closed  bool
}

func (m *Memory) Update(f func(Tx) error) error { return m.run(f, true) }
func (m *Memory) View(f func(Tx) error) error   { return m.run(f, false) }

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
	tx := &memoryTx{m: m, write: write, changed: map[string]map[string][]byte{}}
	if err := f(tx); err != nil {
		return err
	}
	if m.buckets == nil {
		m.buckets = map[string]map[string][]byte{}
	}
	maps.Copy(m.buckets, tx.changed)
	return nil
}

// memoryTx copies a bucket before it changes it.
type memoryTx struct {
	m       *Memory
	write   bool
	changed map[string]map[string][]byte
}

func (t *memoryTx) bucket(name string) map[string][]byte {
	if b, ok := t.changed[name]; ok {
		return b
	}
	return t.m.buckets[name]
}

func (t *memoryTx) Get(bucket string, key []byte) []byte { return t.bucket(bucket)[string(key)] }

func (t *memoryTx) own(bucket string) (map[string][]byte, error) {
	if !t.write {
		return nil, errReadOnly
	}
	if _, ok := t.changed[bucket]; !ok {
		t.changed[bucket] = map[string][]byte{}
		maps.Copy(t.changed[bucket], t.m.buckets[bucket])
	}
	return t.changed[bucket], nil
}

func (t *memoryTx) Put(bucket string, key, value []byte) error {
	b, err := t.own(bucket)
	if err == nil {
		b[string(key)] = append([]byte{}, value...)
	}
	return err
}

func (t *memoryTx) Delete(bucket string, key []byte) error {
	b, err := t.own(bucket)
	if err == nil {
		delete(b, string(key))
	}
	return err
}

func (t *memoryTx) Each(bucket string, f func(key, value []byte) error) error {
	b := t.bucket(bucket)
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if err := f([]byte(k), bytes.Clone(b[k])); err != nil {
			return err
		}
	}
	return nil
}
