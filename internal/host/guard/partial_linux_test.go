package guard

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A kernel that refuses a part of the table refuses whatever needs it, too: one error is told, the cause.
func TestErrorIsToldOnce(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	defer g.Close()
	k := g.(*kernel)
	table := k.conn.AddTable(k.named("-try"))
	k.conn.AddTable(&nftables.Table{Family: 200, Name: "no such family"})
	for i := range 50 {
		k.conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Table: table, Name: fmt.Sprint("absent-", i)}, Exprs: []expr.Any{accept}})
	}
	err := k.flush()
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if err := k.flush(); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

// Which errors say that the kernel lacks something, and what to do then.
func TestPartialKernel(t *testing.T) {
	for _, missing := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		err := partial(fmt.Errorf("conn.Receive: %w", missing))
		if !errors.Is(err, ErrNone) || !errors.Is(err, missing) || !strings.Contains(err.Error(), "nft_fib_inet") {
			t.Errorf("%v: %v", missing, err)
		}
	}
	for _, other := range []error{nil, unix.EBUSY, unix.EPERM} {
		if err := partial(other); err != nil {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// What New tries has every part of a table, and nothing of it stays.
func TestEverythingIsTried(t *testing.T) {
	kinds := func(p Plan) map[string]bool {
		found := map[string]bool{}
		for name, c := range formOf(p).chains {
			if c.base != nil {
				found["the chain "+name] = true
			}
			for _, rule := range c.rules {
				for _, e := range rule {
					found[fmt.Sprintf("%T", e)] = true
				}
			}
		}
		for name := range formOf(p).maps {
			found["the map "+name] = true
		}
		return found
	}
	tried := kinds(everything)
	v4, v6 := flow("10.1.0.0/24", "10.2.0.0/24"), flow("fd01::/64", "fd02::/64")
	for kind := range kinds(plan(udpPass(v4, 1, 0), own(v4), udpPass(v6, 0, 1), v6)) {
		if !tried[kind] {
			t.Errorf("%s is not tried", kind)
		}
	}
	if !tried["*expr.Fib"] {
		t.Errorf("fib is not tried: %v", tried)
	}

	w := newWire(t)
	g := w.guard()
	defer g.Close()
	if out, err := exec.Command("nft", "list", "tables").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v, %s", err, out)
	}
}
