//go:build !linux

package underlay

import "syscall"

// setMark: this system has no marks.
func setMark(syscall.RawConn, uint32) error { return nil }
