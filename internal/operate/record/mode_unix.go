//go:build unix

package record

import "io/fs"

func othersMayEnter(m fs.FileMode) bool { return m.Perm()&0o077 != 0 }
