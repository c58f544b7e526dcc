package integ

import (
	"bytes"
	"encoding/hex"
	"sync"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	for i := range suite.Integs {
		a := &suite.Integs[i]
		m, err := New(a, make([]byte, a.KeyLen))
		if err != nil {
			t.Errorf("%s: %v", a.Name, err)
			continue
		}
		if n := len(m.Sum(nil, nil, nil)); n != a.ICVLen || m.Len() != n {
			t.Errorf("%s: an ICV of %d bytes and Len %d, its row says %d", a.Name, n, m.Len(), a.ICVLen)
		}
	}
	for id := range functions {
		if suite.IntegByID(id) == nil {
			t.Errorf("implementation %d has no row", id)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for i := range suite.Integs {
		a := &suite.Integs[i]
		for _, n := range []int{0, a.KeyLen - 1, a.KeyLen + 1} {
			if _, err := New(a, make([]byte, n)); err == nil {
				t.Errorf("%s accepts a key of %d bytes", a.Name, n)
			}
		}
	}
	if _, err := New(&suite.Integ{Name: "none", ID: 9999}, nil); err == nil {
		t.Error("an algorithm without implementation is accepted")
	}
}

func TestPublished(t *testing.T) {
	for _, v := range []struct{ name, icv string }{
		// RFC 2202 §2 case 1 and §3 case 1; RFC 4868 §2.7.2.1 to §2.7.2.3, AUTH256-1, AUTH384-1 and AUTH512-1
		{"md5", "9294727a3638bb1c13f48ef8"},
		{"sha1", "b617318655057264e28bc0b6"},
		{"sha256", "198a607eb44bfbc69903a0f1cf2bbdc5"},
		{"sha256-96", "198a607eb44bfbc69903a0f1"},
		{"sha384", "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
		{"sha512", "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	} {
		a := suite.IntegByName(v.name)
		m, err := New(a, bytes.Repeat([]byte{0x0b}, a.KeyLen))
		if err != nil {
			t.Fatal(err)
		}
		data := []byte("Hi There")
		for cut := range len(data) + 1 {
			got := m.Sum([]byte("x"), data[:cut], data[cut:])
			if hex.EncodeToString(got[1:]) != v.icv || got[0] != 'x' {
				t.Errorf("%s, cut at %d: %x, want %s", v.name, cut, got, v.icv)
			}
			if !m.Verify(got[1:], data[:cut], data[cut:]) {
				t.Errorf("%s, cut at %d: the ICV does not verify", v.name, cut)
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	for i := range suite.Integs {
		a := &suite.Integs[i]
		m, err := New(a, make([]byte, a.KeyLen))
		if err != nil {
			t.Fatal(err)
		}
		p1, p2 := []byte("some"), []byte("bytes")
		icv := m.Sum(nil, p1, p2)
		for at := range icv {
			bad := bytes.Clone(icv)
			bad[at] ^= 0x80
			if m.Verify(bad, p1, p2) {
				t.Errorf("%s verifies with byte %d changed", a.Name, at)
			}
			if m.Verify(icv[:at], p1, p2) {
				t.Errorf("%s verifies an ICV of %d bytes", a.Name, at)
			}
		}
		if m.Verify(append(bytes.Clone(icv), 0), p1, p2) {
			t.Errorf("%s verifies an ICV that is too long", a.Name)
		}
		if m.Verify(icv, p1, []byte("byteS")) {
			t.Errorf("%s verifies other data", a.Name)
		}
	}
}

// The key must have been copied, and several goroutines may compute at once.
func TestConcurrent(t *testing.T) {
	a := suite.IntegByName("sha256")
	key := bytes.Repeat([]byte{7}, a.KeyLen)
	m, err := New(a, key)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("data"), 100)
	want := m.Sum(nil, data, nil)
	clear(key)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if !bytes.Equal(m.Sum(nil, data, nil), want) {
					t.Error("another ICV under the same key")
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestWycheproof(t *testing.T) {
	for _, name := range []string{"sha1", "sha256", "sha512"} {
		t.Run(name, func(t *testing.T) {
			var f struct {
				TestGroups []struct {
					KeySize, TagSize int
					Tests            []struct {
						TcID            int
						Comment, Result string
						Key, Msg, Tag   vectors.Hex
					}
				}
			}
			vectors.Load(t, "wycheproof/hmac_"+name+"_test.json", &f)
			a, ran := suite.IntegByName(name), 0
			for _, g := range f.TestGroups {
				if g.KeySize != 8*a.KeyLen || g.TagSize < 8*a.ICVLen {
					continue // IKE always derives keys of the row's length
				}
				for _, v := range g.Tests {
					if g.TagSize > 8*a.ICVLen && v.Result != "valid" {
						continue // what is wrong may be in the part that is cut off
					}
					ran++
					m, err := New(a, v.Key)
					if err != nil {
						t.Fatal(err)
					}
					if ok := m.Verify(v.Tag[:a.ICVLen], v.Msg, nil); ok != (v.Result == "valid") {
						t.Errorf("case %d (%s): verifies %v, result is %s", v.TcID, v.Comment, ok, v.Result)
					}
				}
			}
			if ran == 0 {
				t.Error("no case has this row's key length")
			}
		})
	}
}

func TestStrongSwan(t *testing.T) {
	rows := map[string]string{
		"AUTH_HMAC_MD5_96": "md5", "AUTH_HMAC_SHA1_96": "sha1", "AUTH_HMAC_SHA2_256_128": "sha256",
		"AUTH_HMAC_SHA2_384_192": "sha384", "AUTH_HMAC_SHA2_512_256": "sha512",
	}
	ran := map[string]bool{}
	for _, file := range []string{"md5_hmac", "sha1_hmac", "sha2_hmac"} {
		var f struct {
			Vectors []struct {
				Name, Alg      string
				Key, Data, Mac vectors.Hex
			}
		}
		vectors.Load(t, "strongswan-test-vectors/"+file+".json", &f)
		for _, v := range f.Vectors {
			a := suite.IntegByName(rows[v.Alg])
			if a == nil {
				continue // a PRF, or a length that is no row
			}
			ran[a.Name] = true
			m, err := New(a, v.Key)
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			// one of the file's has a MAC that is not cut off
			if got := m.Sum(nil, v.Data, nil); !bytes.Equal(got, v.Mac[:a.ICVLen]) {
				t.Errorf("%s: %x, want %x", v.Name, got, v.Mac)
			}
		}
	}
	if len(ran) != len(rows) {
		t.Errorf("cases of %v", ran)
	}
}

// A MAC is computed and verified without a new state for each packet.
func TestMACDoesNotAllocate(t *testing.T) {
	if poolsLeak {
		t.Skip("under the race detector a pool forgets what it is given")
	}
	for i := range suite.Integs {
		a := &suite.Integs[i]
		m, err := New(a, make([]byte, a.KeyLen))
		if err != nil {
			t.Fatal(err)
		}
		packet, icv := make([]byte, 100), make([]byte, 0, a.ICVLen)
		for what, f := range map[string]func(){"sum": func() { icv = m.Sum(icv[:0], packet, nil) }, "verify": func() { m.Verify(icv, packet, nil) }} {
			if n := testing.AllocsPerRun(500, f); n > 0 {
				t.Errorf("%s, %s: %v allocations", a.Name, what, n)
			}
		}
	}
}
