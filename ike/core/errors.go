package core

import "errors"

// ErrSystem is what Work answers that only the system around the endpoint can do.
var ErrSystem = errors.New("this question is for the system, not for a worker")

// ErrWithdrawn answers an Ask that was withdrawn before anybody worked on it.
var ErrWithdrawn = errors.New("nobody needs the answer any more")
