package record

import "io/fs"

// othersMayEnter: Windows keeps rights elsewhere than in the mode.
func othersMayEnter(fs.FileMode) bool { return false }
