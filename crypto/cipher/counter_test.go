package cipher

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/des"
	"slices"
	"sync"
	"testing"

	"culvert/crypto/suite"
)

// A key stream from counter 0, 1 and 2 on is what the standard library's counter mode makes.
func TestCounter(t *testing.T) {
	b, err := aes.NewCipher(bytes.Repeat([]byte{3}, 16))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCounter(b)
	if err != nil {
		t.Fatal(err)
	}
	prefix := [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	for from := range byte(3) {
		for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 48, 100} {
			got, want := make([]byte, n), make([]byte, n)
			c.XOR(prefix, uint32(from), got)
			stdcipher.NewCTR(b, slices.Concat(prefix[:], []byte{0, 0, 0, from})).XORKeyStream(want, want)
			if !bytes.Equal(got, want) {
				t.Errorf("from counter %d, %d bytes: %x, want %x", from, n, got, want)
			}
		}
	}
}

func TestCounterRefuses(t *testing.T) {
	short, err := des.NewCipher(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewCounter(short); err == nil {
		t.Error("a cipher with blocks of 8 bytes is accepted")
	}
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCounter(b)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a key stream from counter 3 on: GCM does not begin there, and nothing panics")
		}
	}()
	c.XOR([12]byte{}, 3, make([]byte, 16))
}

// What was encrypted does not stay in memory that waits for the next call.
func TestCounterForgets(t *testing.T) {
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCounter(b)
	if err != nil {
		t.Fatal(err)
	}
	var made []*keystream
	c.states = sync.Pool{New: func() any { made = append(made, new(keystream)); return made[len(made)-1] }}
	c.XOR([12]byte{}, 1, make([]byte, 100))
	for _, s := range made {
		if all := s.out[:cap(s.out)]; len(all) == 0 || !bytes.Equal(all, make([]byte, len(all))) || s.block != [16]byte{} {
			t.Errorf("%x and %x are left", all, s.block)
		}
	}
	if len(made) != 1 {
		t.Errorf("%d states were made", len(made))
	}
}

// A row whose key the cipher does not take is refused, not made without a key.
func TestNewRefusesOddKeys(t *testing.T) {
	for _, e := range []suite.Encr{{Name: "ctr", ID: 13, KeyLen: 17, SaltLen: 4, IVLen: 8, Block: 4}, {Name: "cbc", ID: 12, KeyLen: 17, IVLen: 16, Block: 16}} {
		if m, err := New(&e, make([]byte, e.MaterialLen())); err == nil || m != nil {
			t.Errorf("%s: a key of 17 bytes made %v, %v", e.Name, m, err)
		}
	}
}
