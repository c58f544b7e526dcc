package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/spd/selector"
)

var (
	ap4 = netip.MustParseAddrPort("192.0.2.1:500")
	ap6 = netip.MustParseAddrPort("[fe80::1%eth0]:4500")
	ts  = selector.TS{Lo: netip.MustParseAddr("10.0.0.0"), Hi: netip.MustParseAddr("10.0.0.255"), Proto: 6, PortLo: 1, PortHi: 2}
)

// inputs has one of every kind, and what is odd of some.
var inputs = []struct {
	in  any
	hex string // empty: only the way there and back is tested
}{
	{core.Datagram{Local: ap4, Remote: ap4, NATT: true, Data: []byte{1, 2, 3}}, "01 04c0000201 01f4 04c0000201 01f4 01 00000003 010203"},
	{core.Datagram{Local: ap6, Remote: netip.AddrPort{}, Data: []byte{}}, ""},
	{core.Acquire{Policy: 7, Flow: selector.Pair{Local: ts, Remote: ts}}, "02 00000007 040a000000 040a0000ff 06 0001 0002 040a000000 040a0000ff 06 0001 0002"},
	{core.Expire{Child: 5, Hard: true}, "03 0000000000000005 01"},
	{core.Used{Child: 6}, "04 0000000000000006"},
	{core.Alive{Child: 7}, "05 0000000000000007"},
	{core.Moved{Child: 8, Local: ap4, Remote: ap4}, "06 0000000000000008 04c0000201 01f4 04c0000201 01f4"},
	{core.LocalAddrs{Addrs: []netip.Addr{ap4.Addr()}}, "07 00000001 04c0000201"},
	{core.LocalAddrs{}, "07 00000000"},
	{core.LocalAddrs{Addrs: []netip.Addr{ap6.Addr().WithZone(strings.Repeat("z", longestZone))}}, ""},
	{core.LocalNets{Nets: []netip.Prefix{netip.PrefixFrom(ap4.Addr(), 24), netip.MustParsePrefix("2001:db8::/32")}}, "0e 00000002 04c0000201 18 1020010db8000000000000000000000000 20"},
	{core.LocalNets{Nets: []netip.Prefix{netip.PrefixFrom(ap4.Addr(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128)}}, ""},
	{core.Answer{ID: 9, Data: secret.Bytes{1}}, "08 0000000000000009 01 00000001 01 00"},
	{core.Answer{ID: 9, Data: secret.Bytes{}}, "08 0000000000000009 01 00000000 00"},
	{core.Answer{ID: 9, Err: errors.New("no")}, "08 0000000000000009 00 00000000 01 00000002 6e6f"},
	{core.Answer{ID: 9, Err: &auth.Refusal{Check: "a", Why: "b", Hint: "c"}}, "08 0000000000000009 00 00000000 02 00000001 61 00000001 62 00000001 63"},
	{core.SPIs{SPIs: []uint32{1, 2}}, "09 00000002 00000001 00000002"},
	{Reconfigure{Ports: [2]uint16{500, 4500}, Raw: true, From: config.Snapshot{Path: "a",
		Files: []config.SnapshotFile{{Path: "a", Mode: 0o600, Data: []byte("x")}},
		Globs: []config.SnapshotGlob{{Pattern: "*", Paths: []string{"b"}}}}},
		"0a 01f4 1194 01 00000001 61 00000001 00000001 61 00000180 00000001 78 00000001 00000001 2a 00000001 00000001 62"},
	{core.Command{Do: core.RekeyIKE, SA: 3}, "0b 04 0000000000000003"},
	{core.Command{Do: core.RedirectPeers, To: core.Gateway{Addr: ap4.Addr()}, Peer: "a", Within: time.Second},
		"0b 06 0000000000000000 04c0000201 00000000 00000001 61 000000003b9aca00"},
	{core.Command{Do: core.RedirectPeers, To: core.Gateway{Name: "gw2.example.net"}}, ""},
	{core.Tick{}, "0c"},
	{core.TicketKeys{Keys: []core.TicketKey{{ID: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Secret: secret.Bytes{9, 10}, Since: 11}}},
		"0d 00000001 08 0102030405060708 00000002 090a 000000000000000b"},
	{core.TicketKeys{Keys: []core.TicketKey{{ID: [8]byte{1}, Secret: secret.Bytes{2}, Since: 3}, {ID: [8]byte{4}, Secret: secret.Bytes{5}, Since: 6}}}, ""},
	{Reconfigure{From: config.Snapshot{Files: []config.SnapshotFile{{Path: "a", Data: []byte("x")}, {Path: "b", Data: []byte("y")}},
		Globs: []config.SnapshotGlob{{Pattern: "*", Paths: []string{"b", "c"}}, {Pattern: "?", Paths: []string{"d"}}}}}, ""},
	{core.PathClaim{Child: 9, MTU: 1400}, "0f 0000000000000009 00000578"},
	{core.RoutesChanged{}, "10"},
	{core.Unanswered{Child: 9}, "11 0000000000000009"},
	{core.Silent{Child: 9}, "12 0000000000000009"},
	{core.UnknownSPI{Local: ap4, Remote: ap4, NATT: true, SPI: 5, Child: 9}, "13 04c0000201 01f4 04c0000201 01f4 01 00000005 0000000000000009"},
	{core.Woke{Apart: -time.Second}, "14 ffffffffc4653600"},
	{core.PathUntried{Child: 9, MTU: 1400}, "15 0000000000000009 00000578"},
	{core.Busy{Child: 9, Line: 3}, "16 0000000000000009 00000003"},
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInputs(t *testing.T) {
	for _, c := range inputs {
		b, err := appendInput(nil, c.in)
		if err != nil {
			t.Fatalf("%T: %v", c.in, err)
		}
		if c.hex != "" && !bytes.Equal(b, unhex(t, c.hex)) {
			t.Errorf("%T: %x, want %s", c.in, b, c.hex)
		}
		got, err := parseInput(b)
		if err != nil || !same(got, c.in) {
			t.Errorf("%T: %+v, %v, want %+v", c.in, got, err, c.in)
		}
		for n := range b {
			if in, err := parseInput(b[:n]); err == nil {
				t.Errorf("%T cut to %d bytes is %+v", c.in, n, in)
			}
		}
		if _, err := parseInput(append(b, 0)); err == nil {
			t.Errorf("%T with a byte too many is an input", c.in)
		}
	}
}

// same compares with errors by their text, and empty bytes as no bytes of a Datagram.
func same(a, b any) bool {
	if x, ok := a.(core.Answer); ok {
		y := b.(core.Answer)
		return x.ID == y.ID && (x.Data == nil) == (y.Data == nil) && bytes.Equal(x.Data, y.Data) && (x.Err == nil) == (y.Err == nil) && (x.Err == nil || x.Err.Error() == y.Err.Error() && reflect.TypeOf(x.Err) == reflect.TypeOf(y.Err))
	}
	if x, ok := a.(core.Datagram); ok && len(x.Data) == 0 {
		x.Data = b.(core.Datagram).Data
		return reflect.DeepEqual(x, b)
	}
	return reflect.DeepEqual(a, b)
}

// Whoever adds an input to ike/core adds it here.
func TestEveryInputHasACode(t *testing.T) {
	known := map[string]bool{}
	for _, c := range inputs {
		known[reflect.TypeOf(c.in).Name()] = true
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "ike", "core", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	n := 0
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			m, ok := d.(*ast.FuncDecl)
			if !ok || m.Recv == nil || m.Name.Name != "input" {
				continue
			}
			n++
			if of := m.Recv.List[0].Type.(*ast.Ident).Name; !known[of] {
				t.Errorf("core.%s is an input without a code: add it to appendInput, parseInput and the table of this test", of)
			}
		}
	}
	if n < 12 {
		t.Errorf("%d inputs found", n)
	}
}

func TestUnknownInputIsAnError(t *testing.T) {
	if _, err := appendInput(nil, core.Reconfigure{}); err == nil {
		t.Error("a compiled configuration was encoded")
	}
	zone := append(append([]byte{byte(kindLocalAddrs), 0, 0, 0, 1, 16 + longestZone + 1}, make([]byte, 16)...), bytes.Repeat([]byte("z"), longestZone+1)...)
	for _, b := range [][]byte{nil, {0}, {200}, zone, unhex(t, "09 ffffffff 00000001"), unhex(t, "03 0000000000000005 02"),
		unhex(t, "0e 00000001 04c0000201 21"), unhex(t, "0e 00000001 10"+strings.Repeat("00", 16)+"81"), unhex(t, "0e 00000001 00 00"),
		unhex(t, "08 0000000000000009 00 00000000 03")} {
		if in, err := parseInput(b); err == nil {
			t.Errorf("%x is %+v", b, in)
		}
	}
	long := ap6.Addr().WithZone(strings.Repeat("z", longestZone+1))
	b, err := appendInput(nil, core.LocalAddrs{Addrs: []netip.Addr{long}})
	if err != nil {
		t.Fatal(err)
	}
	if in, err := parseInput(b); err != nil || !same(in, core.LocalAddrs{Addrs: []netip.Addr{long.WithZone("")}}) {
		t.Errorf("an address with a zone that is too long is %+v, %v", in, err)
	}
}

func FuzzParseInput(f *testing.F) {
	for _, c := range inputs {
		b, err := appendInput(nil, c.in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseInput(b)
		if err != nil {
			return
		}
		again, err := appendInput(nil, in)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is %+v, which is %x, %v", b, in, again, err)
		}
	})
}

// FuzzPlay: no file makes a replay panic or take more than it has.
func FuzzPlay(f *testing.F) {
	good := (&header{Start: time0, Build: "b"}).append(nil)
	f.Add(good)
	f.Add(append(good, 0, 0, 0, 1, 'E'))
	redacted := (&header{Start: time0, Redacted: true}).append(nil)
	f.Add(append(redacted, 0, 0, 0, 10, 'L', 0, 0, 0, 0, 0, 0, 0, 1, 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Play(bytes.NewReader(b), Player{
			New:     func([32]byte) Endpoint { return &parrot{} },
			Compile: func(Reconfigure) (*core.Config, error) { return &core.Config{}, nil },
		})
	})
}

func TestFolderIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if othersMayEnter(fs.FileMode(0o755)) {
		if _, err := New(&parrot{}, Options{Dir: dir, Start: time0}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("an open folder: %v", err)
		}
	}
	mine := filepath.Join(dir, "rec")
	r, err := New(&parrot{}, Options{Dir: mine, Start: time0})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(mine, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if othersMayEnter(st.Mode()) {
		t.Errorf("mode %v", st.Mode())
	}
}
