package cipher

import "testing"

// A rotation by n bits is n rotations by one.
func TestWordsRotate(t *testing.T) {
	w := word{0x0123456789abcdef, 0xfedcba9876543211}
	want := w
	for n := range uint(128) {
		if hi, lo := w.rotl(n); (word{hi, lo}) != want {
			t.Errorf("rotated by %d: %x %x, want %x", n, hi, lo, want)
		}
		want = word{want[0]<<1 | want[1]>>63, want[1]<<1 | want[0]>>63}
	}
}
