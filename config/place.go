package config

import "fmt"

// Place is where a key of the entry was written, or the entry itself where the
// key is not, as FILE:LINE; "" for an entry that nobody wrote.
func (e *Entry) Place(key string) string {
	if s := e.at(key); s.file != "" {
		return s.String()
	}
	return ""
}

// Fault is one of a key of the entry, or of the entry itself where the key is not written.
func (e *Entry) Fault(table, key, format string, args ...any) Fault {
	s := e.at(key)
	return Fault{s.file, s.line, table + "." + key, fmt.Sprintf(format, args...)}
}
