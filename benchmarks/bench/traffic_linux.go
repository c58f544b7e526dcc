package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The generator is this program again, in a namespace. It is told a job in its
// arguments, says "ready", reads commands from its standard input, one JSON value on
// each line, and answers each with a line.

// A job is what a generator is for.
type job struct {
	Role    string // "tcp-server", "tcp-client", "udp-sink", "udp-source", "ping"
	Streams int    // that tcp-client sends; tcp-server has to have room for all
	Reverse int    // that tcp-client receives
	Tunnels int    // 0: the networks' first addresses; else all tunnels in turns
	Sizes   []int  // payloads of udp-source in bytes, one after the other
	Burst   int    // of udp-source: datagrams in one call by UDP_SEGMENT; 0: none
	GRO     bool   // of udp-sink: the kernel may hand over joined datagrams
}

// window is when a TCP end counts what it receives; both ends have one clock.
type window struct{ From, To time.Time }

// received is its answer.
type received struct{ Bytes uint64 }

const tcpPort, udpPort = 5201, 5202

func runTraffic(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	// Each stream's thread waits in the kernel, and would keep others from running.
	runtime.GOMAXPROCS(runtime.NumCPU() + j.Streams + j.Reverse)
	switch j.Role {
	case "tcp-server":
		return j.tcpServer()
	case "tcp-client":
		return j.tcpClient()
	case "udp-sink":
		return j.udpSink()
	case "udp-source":
		return j.udpSource()
	case "ping":
		return j.ping()
	}
	return fmt.Errorf("no role %q", j.Role)
}

// serve says that the job is ready and answers commands until there are no more.
func serve[C, A any](answer func(C) (A, error)) error {
	fmt.Println("ready")
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var c C
		switch err := in.Decode(&c); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		a, err := answer(c)
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// serveWindows answers how many bytes were counted in each window.
func serveWindows(count *atomic.Uint64) error {
	return serve(func(w window) (received, error) {
		time.Sleep(time.Until(w.From))
		before := count.Load()
		time.Sleep(time.Until(w.To))
		return received{count.Load() - before}, nil
	})
}

// tcpBlock is what is written and read at once.
const tcpBlock = 128 << 10

// tcpServer takes connections, whose first byte says who sends.
func (j job) tcpServer() error {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", tcpPort))
	if err != nil {
		return err
	}
	var count atomic.Uint64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var who [1]byte
				if _, err := io.ReadFull(conn, who[:]); err != nil {
					return
				}
				if who[0] == 'r' {
					_ = pump(conn, nil)
				} else {
					_ = pump(conn, &count)
				}
			}()
		}
	}()
	return serveWindows(&count)
}

func (j job) tcpClient() error {
	var count atomic.Uint64
	var conns []net.Conn // all of them before any fills the tunnel
	for i := range j.Streams + j.Reverse {
		from, to := "10.1.0.1", "10.2.0.1"
		if j.Tunnels > 0 {
			t := i * j.Tunnels / (j.Streams + j.Reverse)
			from, to = tunnelAddr(1, t), tunnelAddr(2, t)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 30 * time.Second}
		conn, err := d.Dial("tcp4", net.JoinHostPort(to, fmt.Sprint(tcpPort)))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	failed := make(chan error, len(conns))
	for i, conn := range conns {
		who, counter := byte('s'), (*atomic.Uint64)(nil)
		if i >= j.Streams {
			who, counter = 'r', &count
		}
		if _, err := conn.Write([]byte{who}); err != nil {
			return err
		}
		go func() { failed <- pump(conn, counter) }()
	}
	go func() {
		fmt.Fprintln(os.Stderr, "a stream ended:", <-failed)
		os.Exit(1)
	}()
	return serveWindows(&count)
}

// pump receives and counts, or sends if there is nothing to count with. The socket
// blocks: a thread waits in the kernel, with no poller between.
func pump(conn net.Conn, count *atomic.Uint64) error {
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	_ = conn.Close() // f is a duplicate
	defer func() { _ = f.Close() }()
	fd := int(f.Fd()) // which makes it blocking
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	buf := make([]byte, tcpBlock)
	for {
		var n int
		if count != nil {
			n, err = unix.Read(fd, buf)
		} else {
			n, err = unix.Write(fd, buf)
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		case count != nil:
			count.Add(uint64(n))
		}
	}
}

// A generator is a running one.
type generator struct {
	*process
	in  io.WriteCloser
	out *bufio.Reader
}

// generate starts a generator on the node and waits until it is ready.
func (n *node) generate(self string, j job) (*generator, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := n.command(self, "traffic", string(text))
	g := &generator{process: &process{name: j.Role, cmd: cmd, log: n.dir + "/" + j.Role + ".log"}}
	log, err := os.Create(g.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	if g.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// Not StdoutPipe, which Wait closes before all is read.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	err = n.run(g.process)
	_ = w.Close()
	if err != nil {
		return nil, err
	}
	g.out = bufio.NewReader(r)
	if line, err := g.line(60 * time.Second); err != nil || line != "ready\n" {
		g.kill()
		return nil, fmt.Errorf("%s is not ready: %q %v\n%s", j.Role, line, err, g.tail())
	}
	return g, nil
}

// line reads an answer. A generator that gives none in time is ended.
func (g *generator) line(limit time.Duration) (string, error) {
	timer := time.AfterFunc(limit, func() { _ = g.cmd.Process.Kill() })
	defer timer.Stop()
	return g.out.ReadString('\n')
}

// ask sends a command and waits for the answer, which takes at least the time given.
func (g *generator) ask(command, answer any, takes time.Duration) error {
	if err := g.tell(command); err != nil {
		return err
	}
	return g.answer(answer, takes)
}

func (g *generator) tell(command any) error {
	if err := json.NewEncoder(g.in).Encode(command); err != nil {
		return fmt.Errorf("%s: %w\n%s", g.name, err, g.tail())
	}
	return nil
}

func (g *generator) answer(answer any, takes time.Duration) error {
	line, err := g.line(takes + 60*time.Second)
	if err == nil {
		err = json.Unmarshal([]byte(line), answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", g.name, err, g.tail())
	}
	return nil
}
