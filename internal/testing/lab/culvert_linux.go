package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// built is the culvert under test, built once per test run.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// Binary builds culvert (at the first call) and returns its path.
func Binary() (string, error) {
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "culvert-bin-")
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(built.dir, "culvert"), "culvert/cmd/culvert")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build culvert: %w\n%s", err, out)
		}
	})
	return filepath.Join(built.dir, "culvert"), built.err
}

func removeBinary() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// Culvert is a culvert process on a node.
type Culvert struct {
	*Process
	node    *Node
	binary  string
	conf    string // culvert.toml
	control string // socket
}

// Row is a row of a print menu: the manual's property names and their values.
type Row map[string]any

// Text is a property as it is printed; empty when absent.
func (r Row) Text(name string) string {
	switch v := r[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// Number is a numeric property; 0 when absent or no number.
func (r Row) Number(name string) uint64 {
	if v, ok := r[name].(float64); ok {
		return uint64(v)
	}
	return 0
}

// Culvert starts culvert on the node with a configuration and waits until it
// answers on its control socket. The lab writes the [gateway] table (names of
// this node's files, and the given lines); toml is everything else.
func (n *Node) Culvert(ctx context.Context, gateway, toml string) *Culvert {
	n.lab.TB.Helper()
	path, err := Binary()
	if err != nil {
		n.lab.TB.Fatal(err)
	}
	c := &Culvert{node: n, binary: path, control: filepath.Join(n.lab.Dir, n.Name+".sock")}
	c.Configure(gateway, toml)
	c.start(ctx)
	return c
}

// Configure writes the configuration file; Reload makes it effective.
func (c *Culvert) Configure(gateway, toml string) {
	c.node.lab.TB.Helper()
	head := fmt.Sprintf("[gateway]\ntun = \"culvert0\"\ncontrol = %q\nstate-dir = %q\n%s\n",
		c.control, filepath.Join(c.node.lab.Dir, c.node.Name+".state"), gateway)
	c.conf = c.node.lab.write(c.node.Name+".toml", head+toml)
}

func (c *Culvert) start(ctx context.Context) {
	tb := c.node.lab.TB
	tb.Helper()
	c.Process = c.node.Start("culvert-"+c.node.Name, nil, c.binary, "--control", c.control,
		"run", "-c", c.conf, "--log-format", "text", "--log-level", "debug")
	err := c.ready(ctx, func() error {
		_, err := c.Print(ctx, "installed-sa")
		return err
	})
	switch {
	case err != nil:
		tb.Fatalf("culvert does not answer: %v", err)
	case c.Ended():
		tb.Fatalf("culvert ended at once: %v", c.Wait(ctx))
	}
}

// Restart starts a culvert that has ended again, with the file as it is now.
func (c *Culvert) Restart(ctx context.Context) {
	c.node.lab.TB.Helper()
	c.start(ctx)
}

// Reload has culvert read its configuration again.
func (c *Culvert) Reload(ctx context.Context) error {
	_, err := c.Command(ctx, "reload")
	return err
}

// Terminate stops culvert by SIGTERM, as an operator does, and waits for its end.
func (c *Culvert) Terminate(ctx context.Context) error {
	if err := c.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.Wait(ctx)
}

// Print is the rows of a print menu: "installed-sa", "active-peers", "policy", "statistics".
func (c *Culvert) Print(ctx context.Context, menu string) ([]Row, error) {
	out, err := c.Command(ctx, menu, "print", "--json")
	if err != nil {
		return nil, err
	}
	var rows []Row
	if err := json.Unmarshal(out, &rows); err != nil {
		return nil, fmt.Errorf("culvert %s print --json: %w\n%s", menu, err, out)
	}
	return rows, nil
}

// Counter is a counter of `statistics print`.
func (c *Culvert) Counter(ctx context.Context, name string) uint64 {
	c.node.lab.TB.Helper()
	rows, err := c.Print(ctx, "statistics")
	if err != nil {
		c.node.lab.TB.Fatal(err)
	}
	for _, r := range rows {
		if r.Text("name") == name {
			return r.Number("value")
		}
	}
	c.node.lab.TB.Fatalf("there is no counter %s", name)
	return 0
}

// Command runs a command against the process, and returns its standard output.
func (c *Culvert) Command(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.binary, append([]string{"--control", c.control}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("culvert %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}
