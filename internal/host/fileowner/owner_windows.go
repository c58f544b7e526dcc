package fileowner

// of is not known: Windows keeps rights in access control lists.
func of(string) (uid int, ok bool) { return 0, false }
