package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"culvert/crypto/suite"
)

// seal has the payload sealed in the middle of a buffer and returns the packet
// in memory of its own, after a look at what Seal must not have touched.
func seal(t testing.TB, tr *Transform, payload []byte, seq uint64, next uint8) []byte {
	t.Helper()
	const margin = 5
	off := margin + tr.Front()
	buf := bytes.Repeat([]byte{0xee}, off+len(payload)+tr.Back()+margin)
	copy(buf[off:], payload)
	start, end := tr.Seal(buf, off, len(payload), seq, next)
	if start != margin || end-start != len(payload)+tr.Overhead(len(payload)) || end > len(buf)-margin {
		t.Fatalf("%d bytes at %d are sealed to [%d:%d], overhead %d, buffer of %d", len(payload), off, start, end, tr.Overhead(len(payload)), len(buf))
	}
	for i, b := range buf {
		if (i < start || i >= off+len(payload)+tr.Back()) && b != 0xee {
			t.Fatalf("Seal wrote at %d, too far from [%d:%d]", i, start, end)
		}
	}
	return bytes.Clone(buf[start:end])
}

func sample(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// Sequence numbers at the ends of what is possible.
func sequences(esn bool) []uint64 {
	if esn {
		return []uint64{1, 1<<32 - 1, 1 << 32, 0x8765432100000001, 1<<64 - 1}
	}
	return []uint64{1, 0x01020304, 1<<32 - 1}
}

func TestSealOpen(t *testing.T) {
	for _, c := range combinations() {
		t.Run(c.name, func(t *testing.T) {
			tr, p := c.transform(t), c.params()
			seqs := sequences(c.esn)
			for n := range 301 {
				seq, next, payload := seqs[n%len(seqs)], uint8(n), sample(n)
				pkt := seal(t, tr, payload, seq, next)
				if want := naiveSeal(t, p, seq, withTrailer(p, payload, next), nil); !bytes.Equal(pkt, want) {
					t.Fatalf("%d bytes, sequence number %#x: sealed %x, want %x", n, seq, pkt, want)
				}
				if SPI(pkt) != p.SPI || Seq(pkt) != uint32(seq) {
					t.Fatalf("header %x: SPI %#x, sequence number %#x", pkt[:8], SPI(pkt), Seq(pkt))
				}
				front := bytes.Clone(pkt[:tr.Front()])
				off, got, nh, err := tr.Open(pkt, seq)
				if !bytes.Equal(pkt[:tr.Front()], front) {
					t.Fatalf("%d bytes: header and IV are %x, and were %x", n, pkt[:tr.Front()], front)
				}
				if err != nil || nh != next || !bytes.Equal(pkt[off:off+got], payload) {
					t.Fatalf("%d bytes: opened [%d:+%d], next header %d, %v", n, off, got, nh, err)
				}
			}
		})
	}
}

func TestSealOpenRandomSizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range combinations() {
		tr, p := c.transform(t), c.params()
		for range 20 {
			n, seq := rng.IntN(9000), uint64(rng.Uint32())
			if c.esn {
				seq = rng.Uint64()
			}
			payload := sample(n)
			pkt := seal(t, tr, payload, seq, 4)
			if want := naiveSeal(t, p, seq, withTrailer(p, payload, 4), nil); !bytes.Equal(pkt, want) {
				t.Fatalf("%s, %d bytes: not what RFC 4303 makes", c.name, n)
			}
			if off, got, _, err := tr.Open(pkt, seq); err != nil || !bytes.Equal(pkt[off:off+got], payload) {
				t.Fatalf("%s, %d bytes: opened [%d:+%d], %v", c.name, n, off, got, err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, c := range combinations() {
		tr := c.transform(t)
		most := 0
		for n := range 100 {
			over := tr.Overhead(n)
			most = max(most, over-tr.Front())
			if got := tr.MaxPayload(n + over); got < n || got+tr.Overhead(got) > n+over {
				t.Errorf("%s: MaxPayload(%d) is %d, but %d fit", c.name, n+over, got, n)
			}
			if got := tr.MaxPayload(n); got >= 0 && (got+tr.Overhead(got) > n || got+1+tr.Overhead(got+1) <= n) {
				t.Errorf("%s: MaxPayload(%d) is %d, whose packet has %d bytes", c.name, n, got, got+tr.Overhead(got))
			} else if got < 0 && (tr.Overhead(0) <= n || got != -1) {
				t.Errorf("%s: MaxPayload(%d) is %d, but an empty payload fits", c.name, n, got)
			}
		}
		if tr.aead != nil || tr.gmac != nil {
			most += 12 // the nonce
		}
		if most != tr.Back() {
			t.Errorf("%s: Back is %d, but up to %d bytes come behind a payload", c.name, tr.Back(), most)
		}
	}
}

// Every byte of a packet is covered, by the ICV or as the ICV.
func TestOpenRefusesEveryChange(t *testing.T) {
	for _, c := range combinations() {
		tr := c.transform(t)
		const seq = 7
		good := seal(t, tr, sample(21), seq, 4)
		for at := range good {
			for _, flip := range []byte{1, 0x80} {
				pkt := bytes.Clone(good)
				pkt[at] ^= flip
				if _, _, _, err := tr.Open(pkt, seq); !errors.Is(err, ErrICV) {
					t.Errorf("%s, byte %d changed: %v, want ErrICV", c.name, at, err)
				}
				came := bytes.Clone(good)
				came[at] ^= flip
				if front := tr.Front(); !bytes.Equal(pkt[:front], came[:front]) {
					t.Errorf("%s, byte %d changed: header and IV are not as they came", c.name, at)
				}
			}
		}
		if c.esn {
			if _, _, _, err := tr.Open(bytes.Clone(good), seq|1<<32); !errors.Is(err, ErrICV) {
				t.Errorf("%s, other high half: %v, want ErrICV", c.name, err)
			}
		}
		if _, _, _, err := tr.Open(bytes.Clone(good), seq+1); !errors.Is(err, ErrICV) {
			t.Errorf("%s, other sequence number: %v, want ErrICV", c.name, err)
		}
		p := c.params()
		if c.encr.AEAD() {
			p.EncKey[0] ^= 1
		}
		if c.integ != nil {
			p.IntegKey[0] ^= 1
		}
		if _, _, _, err := must(New(p)).Open(bytes.Clone(good), seq); !errors.Is(err, ErrICV) {
			t.Errorf("%s, other key: %v, want ErrICV", c.name, err)
		}
	}
}

func TestOpenCut(t *testing.T) {
	for _, c := range combinations() {
		tr := c.transform(t)
		good := seal(t, tr, sample(70), 1, 4)
		for n := range good {
			if _, _, _, err := tr.Open(bytes.Clone(good[:n]), 1); !errors.Is(err, ErrShort) && !errors.Is(err, ErrICV) {
				t.Errorf("%s, cut to %d of %d bytes: %v", c.name, n, len(good), err)
			}
			if _, _, _, err := tr.Open(bytes.Clone(good[n+1:]), 1); !errors.Is(err, ErrShort) && !errors.Is(err, ErrICV) {
				t.Errorf("%s, without its first %d bytes: %v", c.name, n+1, err)
			}
		}
		if _, _, _, err := tr.Open(append(bytes.Clone(good), make([]byte, 16)...), 1); !errors.Is(err, ErrICV) {
			t.Errorf("%s, with a block more: %v, want ErrICV", c.name, err)
		}
	}
}

func TestPadding(t *testing.T) {
	ramp := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i + 1)
		}
		return b
	}
	for _, c := range combinations() {
		tr, p := c.transform(t), c.params()
		// A payload of 2 mod 16, so that padding of 12 mod 16 ends a block of any cipher.
		payload := sample(34)
		for _, v := range []struct {
			what string
			pad  []byte
			lie  int // added to the pad length
			want error
		}{
			{"shortest", ramp(12), 0, nil},
			{"longest", ramp(252), 0, nil},
			{"zeros", make([]byte, 12), 0, ErrPadding},
			{"first wrong", append([]byte{2}, ramp(12)[1:]...), 0, ErrPadding},
			{"last wrong", append(ramp(11), 0), 0, ErrPadding},
			{"longer than the packet", ramp(12), 35, ErrPadding},
			{"far longer than the packet", ramp(12), 200, ErrPadding},
		} {
			plain := append(append(bytes.Clone(payload), v.pad...), byte(len(v.pad)+v.lie), 4)
			pkt := naiveSeal(t, p, 9, plain, nil)
			off, n, next, err := tr.Open(pkt, 9)
			if !errors.Is(err, v.want) {
				t.Errorf("%s, %s: %v, want %v", c.name, v.what, err, v.want)
			} else if err == nil && (next != 4 || !bytes.Equal(pkt[off:off+n], payload)) {
				t.Errorf("%s, %s: not the payload", c.name, v.what)
			}
		}
		if c.encr.AEAD() { // others cannot encrypt what is no whole number of blocks
			for n := range 2 * tr.align {
				plain := withTrailer(p, payload, 4)
				pkt := naiveSeal(t, p, 9, plain[:len(plain)-n], nil)
				if _, _, _, err := tr.Open(pkt, 9); (err != ErrShort) != (n%tr.align == 0) {
					t.Errorf("%s, %d bytes less than whole blocks: %v", c.name, n, err)
				}
			}
		}
		// All padding, nothing to carry: legal, as dummy packets are (RFC 4303 §2.6).
		pkt := naiveSeal(t, p, 9, append(ramp(14), 14, 59), nil)
		if _, n, next, err := tr.Open(pkt, 9); n != 0 || next != 59 || err != nil {
			t.Errorf("%s, nothing but padding: %d bytes, next header %d, %v", c.name, n, next, err)
		}
	}
}

// Payloads sealed by several goroutines at once, under a race of IVs and pools.
func TestConcurrent(t *testing.T) {
	for _, c := range combinations() {
		tr := c.transform(t)
		var wg sync.WaitGroup
		for g := range uint64(4) {
			wg.Go(func() {
				payload := sample(int(100 + g))
				buf := make([]byte, tr.Front()+len(payload)+tr.Back())
				for i := range uint64(50) {
					seq := g<<16 | i
					copy(buf[tr.Front():], payload)
					start, end := tr.Seal(buf, tr.Front(), len(payload), seq, 4)
					off, n, _, err := tr.Open(buf[start:end], seq)
					if err != nil || !bytes.Equal(buf[start+off:start+off+n], payload) {
						t.Errorf("%s: %v", c.name, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestNoAllocation(t *testing.T) {
	if poolsLeak {
		t.Skip("under the race detector a sync.Pool allocates at random")
	}
	for _, c := range combinations() {
		tr := c.transform(t)
		tr.Near() // whatever the algorithms, it only reads
		const n = 1400
		buf := make([]byte, tr.Front()+n+tr.Back())
		var failed error
		allocs := testing.AllocsPerRun(200, func() {
			start, end := tr.Seal(buf, tr.Front(), n, 5, 4)
			if _, _, _, err := tr.Open(buf[start:end], 5); err != nil {
				failed = err
			}
			buf[end-1] ^= 1
			if _, _, _, err := tr.Open(buf[start:end], 5); err == nil {
				failed = errors.New("a changed packet was opened")
			}
		})
		if allocs != 0 || failed != nil {
			t.Errorf("%s: %v allocations for a packet, %v", c.name, allocs, failed)
		}
	}
}

// Two packets of one SA never share an IV, and a CBC IV tells nothing of the next.
func TestIVs(t *testing.T) {
	for _, c := range combinations() {
		if c.encr.IVLen == 0 {
			continue
		}
		tr := c.transform(t)
		seen := map[string]bool{}
		for seq := uint64(1); seq <= 300; seq++ {
			iv := string(seal(t, tr, []byte("same"), seq, 4)[HeaderLen:tr.Front()])
			if seen[iv] {
				t.Fatalf("%s: the IV of packet %d was there before", c.name, seq)
			}
			seen[iv] = true
		}
		p := c.params()
		if !c.encr.RandomIV {
			// A start moves them, over the end too.
			p.IVStart = 1<<64 - 3
			for seq, want := range map[uint64]uint64{1: 1<<64 - 2, 2: 1<<64 - 1, 3: 0, 4: 1} {
				pkt := seal(t, must(New(p)), []byte("same"), seq, 4)
				if got := binary.BigEndian.Uint64(pkt[HeaderLen:]); got != want {
					t.Errorf("%s: packet %d has the IV %#x, want %#x", c.name, seq, got, want)
				}
				if _, _, _, err := tr.Open(pkt, seq); err != nil {
					t.Errorf("%s: packet %d: %v", c.name, seq, err)
				}
			}
			continue
		}
		p.IVKey[0] ^= 1
		if iv := seal(t, must(New(p)), nil, 1, 4)[HeaderLen:tr.Front()]; seen[string(iv)] {
			t.Errorf("%s: the IV does not depend on its key", c.name)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	gcm, cbc, sha1 := suite.EncrByName("aes-128-gcm"), suite.EncrByName("aes-128-cbc"), suite.IntegByName("sha1")
	gmac, null := suite.EncrByName("aes-128-gmac"), suite.EncrByName("null")
	odd := *cbc
	odd.Block = 12
	for what, p := range map[string]Params{
		"nothing":                {},
		"blocks of twelve bytes": {Encr: &odd, EncKey: make([]byte, 16), Integ: sha1, IntegKey: make([]byte, 20)},
		"AEAD and MAC":           {Encr: gcm, EncKey: make([]byte, 20), Integ: sha1, IntegKey: make([]byte, 20)},
		"AEAD without salt":      {Encr: gcm, EncKey: make([]byte, 16)},
		"GMAC and MAC":           {Encr: gmac, EncKey: make([]byte, 20), Integ: sha1, IntegKey: make([]byte, 20)},
		"GMAC without salt":      {Encr: gmac, EncKey: make([]byte, 16)},
		"null without MAC":       {Encr: null},
		"null with a key":        {Encr: null, EncKey: make([]byte, 1), Integ: sha1, IntegKey: make([]byte, 20)},
		"cipher without MAC":     {Encr: cbc, EncKey: make([]byte, 16)},
		"cipher with longer key": {Encr: cbc, EncKey: make([]byte, 24), Integ: sha1, IntegKey: make([]byte, 20)},
		"MAC with shorter key":   {Encr: cbc, EncKey: make([]byte, 16), Integ: sha1, IntegKey: make([]byte, 16)},
	} {
		if tr, err := New(p); err == nil || tr != nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// Keys are the caller's: wiping them does not change the Transform.
func TestKeysAreCopied(t *testing.T) {
	for _, c := range combinations() {
		p := c.params()
		tr := must(New(p))
		want := seal(t, tr, sample(50), 1, 4)
		p.EncKey.Wipe()
		p.IntegKey.Wipe()
		if got := seal(t, tr, sample(50), 1, 4); !bytes.Equal(got, want) {
			t.Errorf("%s: wiping the parameters changed the Transform", c.name)
		}
		tr.Wipe()
		if tr.aead != nil || tr.gmac != nil || tr.mode != nil || tr.mac != nil || tr.iv != nil {
			t.Errorf("%s: Wipe leaves keys behind", c.name)
		}
	}
}

// Whatever arrives, Open says why not; what it opens is what RFC 4303 makes
// under the SA's keys.
func FuzzOpen(f *testing.F) {
	all := combinations()
	for i, c := range all {
		f.Add(uint8(i), uint64(1), seal(f, c.transform(f), sample(30), 1, 4))
		f.Add(uint8(i), uint64(1<<32|9), naiveSeal(f, c.params(), 1<<32|9, make([]byte, 64), nil))
	}
	f.Fuzz(func(t *testing.T, which uint8, seq uint64, packet []byte) {
		c := all[int(which)%len(all)]
		tr := c.transform(t)
		pkt := bytes.Clone(packet)
		off, n, _, err := tr.Open(pkt, seq)
		switch {
		case err == nil:
			if off != tr.Front() || n < 0 || off+n+trailerLen+tr.icv > len(pkt) {
				t.Fatalf("%s: payload [%d:+%d] of a packet of %d bytes", c.name, off, n, len(pkt))
			}
			plain, iv := pkt[off:len(pkt)-tr.icv], packet[HeaderLen:off]
			if again := naiveSeal(t, c.params(), seq, plain, iv); !bytes.Equal(again, packet) {
				t.Errorf("%s: opened %x, which was never sealed", c.name, packet)
			}
		case off != 0 || n != 0:
			t.Errorf("%s: a payload together with %v", c.name, err)
		case !errors.Is(err, ErrShort) && !errors.Is(err, ErrICV) && !errors.Is(err, ErrPadding):
			t.Errorf("%s: %v is none of the errors", c.name, err)
		}
	})
}

// What a peer that knows the keys may have encrypted: any bytes, of which the
// last ones are taken for padding and trailer.
func FuzzOpenAuthentic(f *testing.F) {
	all := combinations()
	for i, c := range all {
		f.Add(uint8(i), uint64(1), withTrailer(c.params(), sample(30), 4))
	}
	f.Add(uint8(0), uint64(1), bytes.Repeat([]byte{255}, 64))
	f.Fuzz(func(t *testing.T, which uint8, seq uint64, plain []byte) {
		c := all[int(which)%len(all)]
		tr, p := c.transform(t), c.params()
		whole := len(plain) - len(plain)%max(4, c.encr.Block)
		if whole == 0 {
			return
		}
		plain = plain[:whole]
		pad, next := int(plain[whole-2]), plain[whole-1]
		good := pad <= whole-2
		for i := 0; good && i < pad; i++ {
			good = int(plain[whole-2-pad+i]) == i+1
		}
		pkt := naiveSeal(t, p, seq, plain, nil)
		off, n, nh, err := tr.Open(pkt, seq)
		if !good && !errors.Is(err, ErrPadding) {
			t.Errorf("%s, %x: %v, want ErrPadding", c.name, plain, err)
		}
		if good && (err != nil || nh != next || !bytes.Equal(pkt[off:off+n], plain[:whole-2-pad])) {
			t.Errorf("%s, %x: payload [%d:+%d], next header %d, %v", c.name, plain, off, n, nh, err)
		}
	})
}
