package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// A damaged file can do anything to the process that reads it: end it by a fault in a
// goroutine that nobody can protect, fill its memory, go round for ever. So the file is
// judged in a process of its own, whose end is the verdict.

// ErrDamaged: the file is not what was written.
var ErrDamaged = errors.New("it is damaged")

// Verdicts, as the judging process writes them on its standard output.
const (
	saysSound   = "sound"
	saysInUse   = "in use"
	saysDamaged = "damaged: "
	saysError   = "error: "
)

// Judge reads all of a database and checks that it hangs together. A damaged one may end the
// process.
func Judge(path string) error {
	return protect(func() error {
		db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: lockWait})
		if err != nil {
			if errors.Is(err, berrors.ErrTimeout) {
				return ErrInUse
			}
			if strings.Contains(err.Error(), "file size too small") {
				return fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			return err
		}
		defer db.Close()
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return db.View(func(tx *bolt.Tx) error {
			if tx.Size() > st.Size() {
				return fmt.Errorf("%w: it has %d bytes of %d", ErrDamaged, st.Size(), tx.Size())
			}
			for err := range tx.Check() {
				return fmt.Errorf("%w: %w", ErrDamaged, err) // the checker waits to say more, for ever
			}
			return readable(tx, st.Size())
		})
	})
}

// readable reads everything. There are no more keys than the file has bytes.
func readable(tx *bolt.Tx, most int64) error {
	return walk(tx, func(_, _, _ []byte) {
		if most--; most < 0 {
			panic("it has more keys than bytes")
		}
	})
}

// walk calls f with each value of each bucket.
func walk(tx *bolt.Tx, f func(bucket, key, value []byte)) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(key, value []byte) error {
			if value != nil { // nil is a bucket within, and there is none
				f(name, key, value)
			}
			return nil
		})
	})
}

// WriteVerdict judges a file and writes the verdict, for the process that JudgeBy starts.
func WriteVerdict(w io.Writer, path string) error {
	text := saysSound
	switch err := Judge(path); {
	case errors.Is(err, ErrInUse):
		text = saysInUse
	case errors.Is(err, ErrDamaged):
		text = saysDamaged + strings.TrimPrefix(err.Error(), ErrDamaged.Error()+": ")
	case err != nil:
		text = saysError + err.Error()
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// judgeLimit is how long a file may take to judge. A million leases take a second.
const judgeLimit = 15 * time.Second

// JudgeBy judges by a process that is started with these arguments and the file's path,
// and that calls WriteVerdict. Whatever else becomes of that process says that the file is
// damaged. If it cannot be started, the file is judged here.
func JudgeBy(program string, args ...string) func(path string) error {
	return func(path string) error {
		return judgeBy(judgeLimit, program, append(args[:len(args):len(args)], path)...)
	}
}

func judgeBy(limit time.Duration, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out, trouble bytes.Buffer
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = &out, &trouble
	c.Env = append(os.Environ(), "GOTRACEBACK=none")
	c.WaitDelay = time.Second
	err := c.Run()
	if c.ProcessState == nil {
		return Judge(args[len(args)-1])
	}
	why, _, _ := strings.Cut(trouble.String(), "\n")
	if ctx.Err() != nil {
		why = "reading it does not end"
	}
	return verdict(out.String(), ending{ok: err == nil, late: ctx.Err() != nil, worked: c.ProcessState.UserTime() >= limit/4,
		text: fmt.Sprintf("a process that reads it ends with %v: %s", c.ProcessState, why)})
}

// ending is how the process that judges ended.
type ending struct {
	ok     bool   // by itself, without an error
	late   bool   // it was ended when its time was over
	worked bool   // for much of its time; else it waited for the disk
	text   string // for people
}

// verdict is what the process said; where it said nothing, its end says it.
func verdict(out string, e ending) error {
	text, _, whole := strings.Cut(out, "\n")
	switch {
	case !whole:
	case text == saysSound && e.ok:
		return nil
	case text == saysInUse:
		return ErrInUse
	case strings.HasPrefix(text, saysDamaged):
		return fmt.Errorf("%w: %s", ErrDamaged, strings.TrimPrefix(text, saysDamaged))
	case strings.HasPrefix(text, saysError):
		return errors.New(strings.TrimPrefix(text, saysError))
	}
	if e.late && !e.worked {
		return ErrSlow
	}
	return fmt.Errorf("%w: %s", ErrDamaged, e.text)
}

// Self is the program that runs, for JudgeBy: also if its file was replaced meanwhile, where
// the system allows that.
func Self() string {
	return self(runtime.GOOS)
}

func self(system string) string {
	if system == "linux" {
		return "/proc/self/exe"
	}
	path, _ := os.Executable()
	return path // if it is not known, nothing can be started, and JudgeBy judges here
}
