package core

import "errors"

// ErrSystem is what Work answers that only the system around the endpoint can do.
var ErrSystem = errors.New("this question is for the system, not for a worker")
