package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// FileName is the database in the state directory.
const FileName = "culvert.db"

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = 2 * time.Second

// ErrInUse: another process has the file open.
var ErrInUse = errors.New("in use by another process")

// Open opens the database in dir, which it makes where it is missing. Only its
// owner can read the file. The errors of the file system are wrapped.
func Open(dir string) (Store, error) {
	path := filepath.Join(dir, FileName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state directory (key state-dir in [gateway]): %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w: give each gateway of this machine its own state-dir in [gateway]", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("cannot open %s; if the file is damaged, move it away and start anew: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &file{db}, nil
}

type file struct{ db *bolt.DB }

func (f *file) Update(do func(Tx) error) error {
	return closed(f.db.Update(func(tx *bolt.Tx) error { return do(fileTx{tx}) }))
}

func (f *file) View(do func(Tx) error) error {
	return closed(f.db.View(func(tx *bolt.Tx) error { return do(fileTx{tx}) }))
}

func (f *file) Close() error { return f.db.Close() }

func closed(err error) error {
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case errors.Is(err, berrors.ErrTxNotWritable):
		return errReadOnly
	}
	return err
}

type fileTx struct{ tx *bolt.Tx }

func (t fileTx) Get(bucket string, key []byte) []byte {
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.Get(key)
	}
	return nil
}

func (t fileTx) Put(bucket string, key, value []byte) error {
	b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return b.Put(key, value)
}

func (t fileTx) Delete(bucket string, key []byte) error {
	if !t.tx.Writable() {
		return errReadOnly
	}
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.Delete(key)
	}
	return nil
}

func (t fileTx) Each(bucket string, f func(key, value []byte) error) error {
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.ForEach(f)
	}
	return nil
}
