package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	systemd  = "/lib/systemd/systemd"
	unitFile = "../../../cmd/culvert/install/culvert.service"
)

// A gateway works with all that the unit of `make install` forbids it: systemd itself, in namespaces of its own, starts it as
// its user. A unit that forbids what the gateway needs fails here.
func TestGatewayUnderTheUnit(t *testing.T) {
	Need(t)
	if _, err := os.Stat(systemd); err != nil {
		t.Skip("systemd is not installed: it does not start the unit; run:\n\tmake packages")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newGuardSite(New(t))
	west := s.west.Culvert(ctx, "", passive(answersAnybody()))
	u := s.east.unit(tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	works := func(when string) {
		t.Helper()
		if err := Until(ctx, func() error {
			out, err := s.host.Try("ping", "-c", "1", "-W", "2", "10.2.0.1")
			if u.Ended() {
				t.Fatalf("%s: systemd has ended", when)
			}
			if err != nil && !u.starts() {
				t.Fatalf("%s: the gateway does not stay up", when)
			}
			if err != nil {
				err = errors.New(out)
			}
			return err
		}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	works("at first")

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.gateway()))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000003400", "CapBnd:\t0000000000003400"} {
		if !strings.Contains(string(status), line+"\n") {
			t.Errorf("the gateway is not restricted: no %q in\n%s", line, status)
		}
	}
	if strings.Contains(string(status), "Uid:\t0\t") {
		t.Error("the gateway is root")
	}

	for _, command := range [][]string{{"installed-sa", "rekey"}, {"active-peers", "rekey"}, {"explain", "peer", "p"}, {"statistics", "print"}} {
		if out, err := u.inside(append([]string{"/run/bin/culvert"}, command...)...); err != nil {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
		works(strings.Join(command, " "))
	}
	if out, err := u.inside("systemctl", "reload", "culvert"); err != nil {
		t.Errorf("reload: %v\n%s", err, out)
	}
	works("after a reload")

	before := u.gateway()
	if out, err := u.inside("systemctl", "kill", "--signal=KILL", "culvert"); err != nil {
		t.Fatalf("kill: %v\n%s", err, out)
	}
	if err := Until(ctx, func() error {
		if now := u.gateway(); now == 0 || now == before {
			return errors.New("it was not started again")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	works("after it was killed")

	if out, err := u.inside("systemctl", "stop", "culvert"); err != nil {
		t.Fatalf("stop: %v\n%s", err, out)
	}
	if left := s.east.Network(); strings.Contains(left, "50500") || strings.Contains(left, "culvert") {
		t.Errorf("the gateway that was stopped has left something:\n%s", left)
	}
	if err := Until(ctx, func() error {
		if !strings.Contains(west.Log(), "event=ike-down") {
			return errors.New("the peer was not told of the end")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// unit is a systemd that runs the gateway's unit on a node.
type unit struct {
	*Process
	node  *Node
	group string // its cgroup
}

// bootSystemd is what a shell does before it becomes systemd: it enters a cgroup of its own ($2), and what systemd, the unit and
// the gateway write is its own. $1 is a folder of the lab.
const bootSystemd = `set -e
mkdir /run/group; mount -t cgroup2 cgroup2 /run/group; mkdir "/run/group/$2"; echo $$ >"/run/group/$2/cgroup.procs"; umount /run/group
exec unshare --mount --pid --fork --kill-child --cgroup sh -e -c '
	mount --make-rprivate /
	for f in passwd group; do mount --bind "$1/$f" /etc/$f; done
	mount -t proc proc /proc
	umount -R -l /sys/fs/cgroup 2>/dev/null || true
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	for d in /run /var/lib; do mount -t tmpfs -o mode=755 tmpfs $d; done
	cp -r "$1/bin" "$1/site.toml" /run
	chmod 755 /run/bin; chmod 644 /run/site.toml
	container=lab SYSTEMD_UNIT_PATH="$1/units" exec ` + systemd + ` --system --unit=lab.target --log-target=console --show-status=0
' sh "$1"`

// unit boots systemd with the gateway's unit, and does not wait until the gateway is up.
func (n *Node) unit(toml string) *unit {
	l := n.lab
	l.TB.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		l.TB.Fatal(err)
	}
	dir := filepath.Join(l.Dir, n.Name+".systemd")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "units"), 0o755), os.Mkdir(filepath.Join(dir, "bin"), 0o755)); err != nil {
		l.TB.Fatal(err)
	}
	path, err := Binary()
	if err != nil {
		l.TB.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "bin", "culvert")); err != nil {
		l.TB.Fatal(err)
	}
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			l.TB.Fatal(err)
		}
	}
	for _, file := range []string{"passwd", "group"} { // those of the host, with the user
		of, err := os.ReadFile("/etc/" + file)
		if err != nil {
			l.TB.Fatal(err)
		}
		put(file, string(of)+map[string]string{"passwd": "culvert:x:64123:64123::/:/usr/sbin/nologin\n", "group": "culvert:x:64123:\n"}[file])
	}
	put("log", "")
	put("site.toml", toml)
	put("units/culvert.service", strings.NewReplacer("@BINDIR@", "/run/bin", "/etc/culvert/site.toml", "/run/site.toml").Replace(string(text)))
	if err := os.Mkdir(filepath.Join(dir, "units/culvert.service.d"), 0o755); err != nil {
		l.TB.Fatal(err)
	}
	put("units/culvert.service.d/lab.conf", "[Service]\nStandardOutput=append:"+dir+"/log\nStandardError=inherit\n") // there is no journal
	for _, target := range []string{"sysinit", "basic", "shutdown", "network", "nss-lookup", "multi-user"} {
		put("units/"+target+".target", "[Unit]\nDefaultDependencies=no\n")
	}
	put("units/lab.target", "[Unit]\nDefaultDependencies=no\nWants=culvert.service\n")
	if err := os.Chmod(l.Dir, 0o755); err != nil { // the unit's user reads nothing here, but systemd goes through it
		l.TB.Fatal(err)
	}

	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		l.TB.Fatal(err)
	}
	u := &unit{node: n}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			u.group = filepath.Join(f[1], n.NS)
			break
		}
	}
	if u.group == "" {
		l.TB.Skip("there is no cgroup2 hierarchy on this host, which systemd needs")
	}
	u.Process = n.Start("systemd-"+n.Name, nil, "sh", "-c", bootSystemd, "sh", dir, n.NS)
	l.TB.Cleanup(func() {
		if l.TB.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			l.TB.Logf("---- log of the gateway ----\n%s", log)
		}
		u.Kill()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := Until(ctx, func() error { // what was in it ends a moment later
			if out, err := run("find", u.group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"); err != nil {
				return errors.New(out)
			}
			return nil
		}); err != nil {
			l.TB.Errorf("remove the cgroup: %v", err)
		}
	})
	return u
}

// gateway is the process ID of the gateway; 0: it does not run.
func (u *unit) gateway() int {
	text, _ := os.ReadFile(filepath.Join(u.group, "system.slice", "culvert.service", "cgroup.procs"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// starts is false once the gateway was started again several times.
func (u *unit) starts() bool {
	out, err := u.inside("systemctl", "show", "--property=NRestarts", "--value", "culvert")
	n, err2 := strconv.Atoi(strings.TrimSpace(out))
	return err != nil || err2 != nil || n < 4
}

// inside runs a command where systemd is.
func (u *unit) inside(args ...string) (string, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", u.PID()))
	if err != nil {
		return "", err
	}
	out, err := exec.Command("nsenter", append([]string{"-t", strings.TrimSpace(string(children)), "-m", "-p", "-n", "--"}, args...)...).CombinedOutput()
	return string(out), err
}
