package control

// DefaultPath is where the control socket is unless told otherwise. macOS has no /run.
const DefaultPath = "/var/run/culvert/control.sock"
