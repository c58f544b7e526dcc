//go:build unix && !darwin

package control

// DefaultPath is where the control socket is unless told otherwise.
const DefaultPath = "/run/culvert/control.sock"
