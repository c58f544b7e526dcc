package gateway

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/operate/record"
	"culvert/internal/packet/underlay"
	"culvert/internal/state/store"
	"culvert/tun"
)

// What loads and does not compile is refused by check, start, replay and reload with one text, and a
// reload leaves everything as it was.
func TestCheckStartAndReloadRefuseTheSame(t *testing.T) {
	const small, six = "[gateway]\nmtu = 1000\n", "[[policy]]\naction = \"discard\"\nsrc-address = \"2001:db8:1::/48\"\ndst-address = \"2001:db8:2::/48\"\n"
	dir := t.TempDir()
	path := filepath.Join(dir, "c.toml")
	writeFile(t, path, small+six)
	want := path + ":2: gateway.mtu: 1000 is too small for IPv6, which the policy at " + path + ":3 needs, write 1280 or more, or leave it out"
	var faults config.Faults
	if c, _, err := Check(path); c != nil || !errors.As(err, &faults) || err.Error() != want {
		t.Errorf("check: %v, want %s", err, want)
	}
	host := &tun.MemoryHost{}
	e := Edges{Host: host, Device: tun.NewMemory("culvert0", 1400), Conn: underlay.NewMemory(westAddr, 500, 4500, func(underlay.Packet) {})}
	err := Run(context.Background(), Options{ConfigPath: path, Control: filepath.Join(dir, "s"), Stderr: &buffer{},
		Edges: func(*config.Gateway) (Edges, error) { return e, nil }})
	if !errors.As(err, &faults) || err.Error() != want || len(host.Plans()) != 0 {
		t.Errorf("start: %v, want %s; plans %v", err, want, host.Plans())
	}
	if _, err := guardBefore(parse(t, small+six)); !errors.As(err, &faults) {
		t.Errorf("the guard alone: %v", err)
	}

	_, _, snapshot, err := config.LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&compiler{}).compile(record.Reconfigure{From: *snapshot, Ports: [2]uint16{500, 4500}}); !errors.As(err, &faults) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("replay: %v", err)
	}

	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", eastAddr, small)
	eventually(t, "started", func() bool { return len(p.host.Plans()) == 1 })
	writeFile(t, p.path, small+six)
	if _, err := p.client().Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "gateway.mtu: 1000 is too small for IPv6, which the policy at "+p.path) {
		t.Errorf("reload: %v", err)
	}
	if rows, err := p.client().Policies(context.Background()); err != nil || len(rows) != 1 || len(p.host.Plans()) != 1 {
		t.Errorf("after the reload: %+v, %v, %d plans", rows, err, len(p.host.Plans()))
	}
}

// What has no effect is told by check, start and reload.
func TestCheckStartAndReloadWarnOfTheSame(t *testing.T) {
	twice := warriorServer + "[[policy]]\ntemplate = true\ngroup = \"ike2-policies\"\ndst-address = \"192.168.99.0/24\"\nproposal = \"ike2\"\n"
	twice += twice[strings.LastIndex(twice, "[[policy]]"):]
	const want = "policy.template: is the same as the template at "
	path := filepath.Join(t.TempDir(), "c.toml")
	writeFile(t, path, twice)
	told := false
	_, warnings, err := Check(path)
	for _, w := range warnings {
		told = told || strings.Contains(w.String(), want)
	}
	if err != nil || !told {
		t.Errorf("check: %v, %v", warnings, err)
	}
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", eastAddr, twice, remembering(&store.Memory{}))
	eventually(t, "started", func() bool { return len(p.host.Plans()) == 1 })
	eventually(t, "warned", func() bool { return strings.Contains(p.log.String(), want) })
	r, err := p.client().Reload(context.Background())
	if err != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), want) {
		t.Errorf("reload: %+v, %v", r, err)
	}
}
