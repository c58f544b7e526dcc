package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Node is a machine of the lab: a network namespace, and a /run of its own for
// the daemons that are started in it.
type Node struct {
	Name string // short: "we", "peer", "nat"
	NS   string // unique on this computer
	lab  *Lab
	run  string // bound over /run of the node's daemons

	mu     sync.Mutex
	server *Process // transfer server, started when first needed
}

// Node creates a machine with only a loopback interface.
func (l *Lab) Node(name string) *Node {
	l.TB.Helper()
	n := &Node{
		Name: name,
		NS:   fmt.Sprintf("%s%d-%d-%s", nsPrefix, os.Getpid(), serial.Add(1), name),
		lab:  l,
		run:  filepath.Join(l.Dir, name+".run"),
	}
	if err := os.Mkdir(n.run, 0o755); err != nil {
		l.TB.Fatal(err)
	}
	if out, err := run("ip", "netns", "add", n.NS); err != nil {
		l.TB.Fatalf("create namespace: %v\n%s", err, out)
	}
	l.mu.Lock()
	l.nodes = append(l.nodes, n)
	l.mu.Unlock()
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Run runs a command in the node's network and returns its output; a failure
// fails the test.
func (n *Node) Run(args ...string) string {
	n.lab.TB.Helper()
	out, err := n.Try(args...)
	if err != nil {
		n.lab.TB.Fatalf("on %s: %s: %v\n%s", n.Name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for commands that may fail.
func (n *Node) Try(args ...string) (string, error) {
	return run("ip", append([]string{"netns", "exec", n.NS}, args...)...)
}

// Inner adds addresses of the protected networks to the node's loopback
// interface, from where a transfer can be bound to them.
func (n *Node) Inner(addrs ...netip.Addr) {
	n.lab.TB.Helper()
	for _, a := range addrs {
		n.Run("ip", "addr", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "lo")
	}
	for _, a := range addrs {
		n.await("ip", a, "-o", "route", "show", "table", "local", "dev", "lo")
	}
}

// await waits until a command's output has the word. What the kernel is told of links
// and addresses it does a moment later.
func (n *Node) await(command string, word any, args ...string) {
	n.lab.TB.Helper()
	if a, ok := word.(netip.Addr); ok && a.Is6() {
		args = append([]string{"-6"}, args...)
	}
	if err := Until(n.lab.TB.Context(), func() error {
		if out := n.Run(append([]string{command}, args...)...); !slices.Contains(strings.Fields(out), fmt.Sprint(word)) {
			return fmt.Errorf("on %s: %s %s has no %v: %s", n.Name, command, strings.Join(args, " "), word, out)
		}
		return nil
	}); err != nil {
		n.lab.TB.Fatal(err)
	}
}

// Sysctl sets a kernel parameter of the node's network.
func (n *Node) Sysctl(name, value string) {
	n.lab.TB.Helper()
	n.Run("sh", "-c", `echo "$2" >"/proc/sys/$1"`, "sh", strings.ReplaceAll(name, ".", "/"), value)
}

// Network is everything a gateway may change in its machine's network: links,
// addresses, rules, routes of all tables and nftables, as text to compare.
func (n *Node) Network() string {
	n.lab.TB.Helper()
	var b strings.Builder
	for _, cmd := range []string{
		"ip -brief link", "ip -brief addr", "ip -4 rule", "ip -6 rule",
		"ip -4 route show table all", "ip -6 route show table all", "nft list ruleset",
	} {
		fmt.Fprintf(&b, "# %s\n%s\n", cmd, n.Run(strings.Fields(cmd)...))
	}
	return b.String()
}

// End is one end of a wire.
type End struct {
	Node   *Node
	Device string
	Prefix netip.Prefix // address and length
}

// Wire joins two nodes by a veth pair and gives both ends their addresses. It
// carries when Wire returns: the kernel loses what is sent before that.
func (l *Lab) Wire(a, b End) {
	l.TB.Helper()
	a.Node.Run("ip", "link", "add", a.Device, "type", "veth", "peer", "name", b.Device, "netns", b.Node.NS)
	for _, e := range []End{a, b} {
		// No link-local addresses: they appear late and blur Network.
		e.Node.Run("ip", "link", "set", e.Device, "addrgenmode", "none")
		e.Node.Run("ip", "addr", "add", e.Prefix.String(), "dev", e.Device)
		e.Node.Run("ip", "link", "set", e.Device, "up")
	}
	for _, e := range []End{a, b} {
		e.Node.await("ip", "UP", "-o", "link", "show", "dev", e.Device) // the state
		e.Node.await("ip", e.Prefix.Addr(), "-o", "route", "show", "table", "local", "dev", e.Device)
	}
}

// NATPorts are the ports to which a NAT router moves those whom it hides.
const (
	NATPortFirst = 20000
	NATPortLast  = 29999
)

// Masquerade makes the node a NAT router that hides what it forwards out of the
// device behind that device's address and other ports, and lets nothing in that
// was not asked for.
func (n *Node) Masquerade(device string) {
	n.lab.TB.Helper()
	n.Sysctl("net.ipv4.ip_forward", "1")
	rules := n.lab.write(n.Name+".nft", fmt.Sprintf(`
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat;
		oifname %[1]q meta l4proto { tcp, udp } masquerade to :%[2]d-%[3]d
		oifname %[1]q masquerade
	}
	chain forward {
		type filter hook forward priority filter;
		ct status dnat accept
		iifname %[1]q ct state new drop
	}
}
`, device, NATPortFirst, NATPortLast))
	n.Run("nft", "-f", rules)
}

// Forward makes a NAT router let in what comes by a device for UDP ports, and
// leads it to one of those whom it hides.
func (n *Node) Forward(device string, to netip.Addr, ports ...uint16) {
	n.lab.TB.Helper()
	var rules strings.Builder
	for _, port := range ports {
		fmt.Fprintf(&rules, "\t\tiifname %q udp dport %d dnat to %s\n", device, port, to)
	}
	n.Run("nft", "-f", n.lab.write(n.Name+"-forward.nft", fmt.Sprintf(`
table ip forwarded {
	chain pre {
		type nat hook prerouting priority dstnat;
%s	}
}
`, rules.String())))
}

func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
