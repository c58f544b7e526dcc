package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// What the system refuses, and what people are told to do.
func TestWhatTheSystemRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		is   error // that callers look for
		want string
	}{
		{unix.EPERM, ErrPrivilege, "run as root or give the program cap_net_admin"},
		{unix.ENETDOWN, unix.ENETDOWN, `the device is down: set it up with "ip link set up"`},
		{unix.EACCES, unix.EACCES, "IPv6 may be disabled on the device"},
		{unix.EEXIST, unix.EEXIST, unix.EEXIST.Error()},
	} {
		if got := hint(c.err); !errors.Is(got, c.is) || !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
	for err, want := range map[error]string{
		unix.EHOSTUNREACH: "unreachable", unix.ENETUNREACH: "there is no route", unix.EACCES: "a route or rule prohibits it",
		unix.EXDEV: "reverse-path filtering (rp_filter) refuses its source there", unix.EINVAL: "",
	} {
		if got := nowhere(fmt.Errorf("asking: %w", err)); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	for _, c := range []struct {
		err  error
		is   error
		want string
	}{
		{unix.ENODEV, ErrNoDriver, "modprobe tun"}, {unix.ENXIO, ErrNoDriver, "modprobe tun"},
		{unix.EPERM, ErrPrivilege, "setcap cap_net_admin"}, {unix.EACCES, ErrPrivilege, "setcap cap_net_admin"},
		{unix.EBUSY, ErrNameTaken, "choose another name"}, {unix.EIO, unix.EIO, "cannot create TUN device nosuch0"},
	} {
		got := explainCreate("nosuch0", c.err)
		if errors.Is(got, ErrNoDriver) && c.is != ErrNoDriver {
			t.Skip("there is no /dev/net/tun, which all errors are explained by")
		}
		if !errors.Is(got, c.is) || !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// decision is the system's answer to "which way", from the main table.
func decision(kind uint8, attrs ...[]byte) []byte {
	msg := nl.NewRtMsg()
	msg.Type, msg.Table = kind, 254
	return slices.Concat(msg.Serialize(), slices.Concat(attrs...))
}

// attributeOf is an attribute that has a number.
func attributeOf(kind int, n uint32) []byte {
	return nl.NewRtAttr(kind, binary.NativeEndian.AppendUint32(nil, n)).Serialize()
}

// What the system's answer to "which way" says, by type of route.
func TestDecisions(t *testing.T) {
	attr := func(kind int, data []byte) []byte { return nl.NewRtAttr(kind, data).Serialize() }
	table := attributeOf(unix.RTA_TABLE, 1000)
	gateway, source := attr(unix.RTA_GATEWAY, []byte{192, 0, 2, 1}), attr(unix.RTA_PREFSRC, []byte{192, 0, 2, 9})
	all := Decision{Table: 1000, Gateway: netip.MustParseAddr("192.0.2.1"), Src: netip.MustParseAddr("192.0.2.9")}
	with := func(change func(*Decision)) Decision { d := all; change(&d); return d }
	for _, c := range []struct {
		name  string
		kind  uint8
		attrs [][]byte
		want  Decision
	}{
		{"a route", unix.RTN_UNICAST, [][]byte{table, gateway, source}, all},
		{"nothing but the table of the header", unix.RTN_UNICAST, nil, Decision{Table: 254}},
		{"a table that is cut", unix.RTN_UNICAST, [][]byte{attr(unix.RTA_TABLE, []byte{1, 2, 3})}, Decision{Table: 254}},
		{"a device that is cut", unix.RTN_UNICAST, [][]byte{attr(unix.RTA_OIF, []byte{1, 2, 3})}, Decision{Table: 254}},
		{"here", unix.RTN_LOCAL, [][]byte{table, gateway, source}, with(func(d *Decision) { d.Local = true })},
		{"to all", unix.RTN_BROADCAST, [][]byte{table, gateway, source}, with(func(d *Decision) { d.Broadcast = true })},
		{"unreachable", unix.RTN_UNREACHABLE, [][]byte{table, gateway, source}, with(func(d *Decision) { d.Nowhere = "unreachable" })},
		{"prohibited", unix.RTN_PROHIBIT, [][]byte{table, gateway, source}, with(func(d *Decision) { d.Nowhere = "a route or rule prohibits it" })},
		{"discarded", unix.RTN_BLACKHOLE, [][]byte{table, gateway, source}, with(func(d *Decision) { d.Nowhere = "a route or rule discards it" })},
	} {
		got, err := (&kernel{}).decodeDecision(decision(c.kind, c.attrs...))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// What is gone already need not be taken away.
func TestUnlessGone(t *testing.T) {
	for err, gone := range map[error]bool{nil: true, unix.ENOENT: true, unix.ESRCH: true, unix.EADDRNOTAVAIL: true, unix.EPERM: false, unix.EBUSY: false} {
		if got := unlessGone(err); (got == nil) != gone || got != nil && got != err {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// fakeDevice is the package's device as far as it is read.
type fakeDevice struct {
	wgtun.Device
	reads []struct {
		n   int
		err error
	}
}

func (d *fakeDevice) Read([][]byte, []int, int) (int, error) {
	r := d.reads[0]
	d.reads = d.reads[1:]
	return r.n, r.err
}

// What a device's errors are about: those of its watch are passed over, those of a packet cost the packet.
func TestReadOn(t *testing.T) {
	type read = struct {
		n   int
		err error
	}
	odd := errors.New("too many segments")
	for _, c := range []struct {
		name   string
		reads  []read
		n      int
		is     error // nil: none
		packet bool
	}{
		{"packets", []read{{3, nil}}, 3, nil, false},
		{"a fault of the watch", []read{{0, unix.ENOBUFS}, {0, unix.EINTR}, {2, nil}}, 2, nil, false},
		{"one behind packets", []read{{1, unix.ENOBUFS}}, 1, unix.ENOBUFS, false},
		{"the file", []read{{0, os.ErrClosed}}, 0, os.ErrClosed, false},
		{"a packet", []read{{0, odd}}, 0, odd, true},
		{"a packet behind others", []read{{2, odd}}, 2, odd, true},
		{"a packet and no number", []read{{-1, odd}}, 0, odd, true},
	} {
		d := &fakeDevice{reads: c.reads}
		n, err := readOn(d)(nil, nil, 0)
		if n != c.n || (err == nil) != (c.is == nil) || c.is != nil && !errors.Is(err, c.is) || errors.Is(err, ErrPacket) != c.packet || len(d.reads) != 0 {
			t.Errorf("%s: %d, %v, %d reads are left", c.name, n, err, len(d.reads))
		}
	}
}

// What the system lists while the list changes is listed again, a bounded number of times; other errors end it.
func TestRetry(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		name  string
		fails int // how often, before it works
		err   error
		tries int
		ok    bool
	}{
		{"at once", 0, nil, 1, true}, {"interrupted", 3, netlink.ErrDumpInterrupted, 4, true}, {"by a signal", 10, unix.EINTR, 11, true},
		{"always", 100, netlink.ErrDumpInterrupted, 11, false}, {"another error", 100, other, 1, false},
	} {
		tries := 0
		v, err := retry(func() (int, error) {
			if tries++; tries <= c.fails {
				return 0, fmt.Errorf("listing: %w", c.err)
			}
			return 7, nil
		})
		if tries != c.tries || (err == nil) != c.ok || c.ok && v != 7 || !c.ok && !errors.Is(err, c.err) {
			t.Errorf("%s: %d tries, %d, %v", c.name, tries, v, err)
		}
	}
}
