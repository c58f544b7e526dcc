package config

// Place is where a key of the entry was written, or the entry itself where the
// key is not, as FILE:LINE; "" for an entry that nobody wrote.
func (e *Entry) Place(key string) string {
	if s := e.at(key); s.file != "" {
		return s.String()
	}
	return ""
}
