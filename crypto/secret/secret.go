package secret

import (
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
)

const hidden = "(hidden)"

// Bytes is key material. Every way of printing it prints "(hidden)": fmt with
// any verb, log/slog, and JSON. Reveal is the only way to see it as text.
type Bytes []byte

func (Bytes) String() string               { return hidden }
func (Bytes) GoString() string             { return hidden }
func (Bytes) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(hidden)) }
func (Bytes) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Bytes) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal returns the secret in hexadecimal, for output that was asked to show keys.
func (b Bytes) Reveal() string { return hex.EncodeToString(b) }

// Equal compares in constant time for equal lengths.
func (b Bytes) Equal(c []byte) bool { return subtle.ConstantTimeCompare(b, c) == 1 }

// Clone returns a copy that the caller owns.
func (b Bytes) Clone() Bytes {
	if b == nil {
		return nil
	}
	return append(make(Bytes, 0, len(b)), b...)
}

// Wipe overwrites the bytes with zero.
func (b Bytes) Wipe() { clear(b) }
