//go:build !linux

package guard

// Options of New.
type Options struct {
	// Table names the instance, as it does with routes.
	Table int
}

// Tables returns ErrNone.
func Tables() ([]int, error) { return nil, ErrNone }

// New returns ErrNone.
func New(Options) (Guard, error) { return nil, ErrNone }
