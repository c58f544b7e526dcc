package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	mdlnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"culvert/internal/host/nlwatch"
)

// What others do with the guard's table: `nft flush ruleset`, as firewalld and the
// service of nftables do when they start or reload, or the removal of a part.

// ours tells which reports are about the guard's table. The kernel reports a commit
// as its parts, and then the new generation with who made it.
type ours struct {
	name    string
	port    uint32 // of our own socket; its commits are not reported
	touched bool   // a part of the commit that is being reported was about our table
}

func newWatch(name string, port uint32) (*nlwatch.Watch, error) {
	o := &ours{name: name, port: port}
	return nlwatch.Listen(unix.NETLINK_NETFILTER, o.judge, unix.NFNLGRP_NFTABLES)
}

// nfgenmsg is the length of struct nfgenmsg, which is in front of the attributes.
const nfgenmsg = 4

func (o *ours) judge(w *nlwatch.Watch, m *syscall.NetlinkMessage) bool {
	if m == nil { // what was lost may have been the end of our own commit
		o.touched = false
		return true
	}
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	if m.Header.Type&0xff00 != subsystem || len(m.Data) < nfgenmsg {
		return false
	}
	attrs, err := nl.ParseRouteAttr(m.Data[nfgenmsg:])
	if err != nil {
		return true // nobody knows
	}
	if m.Header.Type&0xff != unix.NFT_MSG_NEWGEN {
		// The first attribute of every other object is the name of its table (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …).
		for _, a := range attrs {
			if a.Attr.Type&nlaType == unix.NFTA_TABLE_NAME {
				name := string(bytes.TrimRight(a.Value, "\x00"))
				o.touched = o.touched || name == o.name || name == o.name+standIn
			}
		}
		return false
	}
	touched := o.touched
	o.touched = false
	if !touched || m.Header.Pid == o.port {
		return false
	}
	w.Suspect(committer(attrs))
	return true
}

// committer is who made a generation, such as "nft (process 812)".
func committer(attrs []syscall.NetlinkRouteAttr) string {
	var name string
	var pid uint32
	for _, a := range attrs {
		switch a.Attr.Type & nlaType {
		case unix.NFTA_GEN_PROC_PID:
			if len(a.Value) >= 4 {
				pid = binary.BigEndian.Uint32(a.Value)
			}
		case unix.NFTA_GEN_PROC_NAME:
			name = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%s (process %d)", name, pid)
}

// portOf is the port of a netlink socket.
func portOf(c *mdlnetlink.Conn) (port uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var name unix.Sockaddr
	var inner error
	err = raw.Control(func(fd uintptr) { name, inner = unix.Getsockname(int(fd)) })
	if err = errors.Join(err, inner); err != nil {
		return 0, err
	}
	if a, ok := name.(*unix.SockaddrNetlink); ok {
		port = a.Pid
	}
	return port, nil
}

// Changed: see Watcher.
func (k *kernel) Changed() <-chan struct{} { return k.watch.Changed() }

// Differences: see Watcher.
func (k *kernel) Differences() ([]string, error) {
	if k.plan == nil {
		return nil, nil
	}
	return k.compare()
}

// Restore: see Watcher.
func (k *kernel) Restore() (restored, by []string, err error) {
	by = k.watch.Suspects()
	if k.plan == nil {
		return nil, by, nil
	}
	restored, err = k.compare()
	if err != nil {
		return nil, by, err
	}
	if len(restored) == 0 {
		return nil, by, nil
	}
	if err := k.put(*k.plan); err != nil {
		return nil, by, err
	}
	return restored, by, nil
}
