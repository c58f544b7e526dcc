package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What runs as the first process of a guest: this test binary, on the computer's
// own files. It covers them with a layer of memory, loads the kernel's IPsec, and
// then does what it is asked over the serial line.

// guestRequest is a command for a guest, guestReply what became of it; both
// travel as a line of JSON. To start a program takes a guest many times what it
// takes a computer, so the first process does by itself what is asked often: if one of
// the last five is set, there is no command.
type guestRequest struct {
	ID    int
	Args  []string
	Env   []string // beside the usual
	Stdin []byte
	Quiet bool // what is printed to standard error counts only if the command fails

	Write  string // put Stdin into this file
	Read   string // the reply is what this file has
	Helper string // do what the test binary does as this helper, whose output is not wanted
	SAs    string // the reply is what charon lists at this socket (viciSAs)
	End    string // kill this program, and take its work out of the kernel (endProgram)
}

type guestReply struct {
	ID    int // 0: the guest is up; Fault says if it is not
	Out   []byte
	Code  int    // exit status
	Fault string // the command could not be run
}

// guestModules are loaded at the start; algorithms come as they are asked for.
var guestModules = []string{"xfrm_user", "esp4", "esp6", "ah4", "ah6", "tun"}

// guest is the first process. The guest halts when it returns.
func guest() error {
	defer func() {
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}()
	err := guestSetup()
	line, lineErr := serialLine()
	if lineErr != nil {
		return errors.Join(err, lineErr)
	}
	hello := guestReply{}
	if err != nil {
		hello.Fault = err.Error()
	}
	if err := json.NewEncoder(line).Encode(hello); err != nil {
		return err
	}
	go func() { fmt.Fprintln(os.Stderr, "transfers:", serve()) }()
	return obey(line)
}

// obey runs each request as it comes, beside those that still run.
func obey(line io.ReadWriter) error {
	var mu sync.Mutex
	replies, requests := json.NewEncoder(line), json.NewDecoder(line)
	for {
		var r guestRequest
		if err := requests.Decode(&r); err != nil {
			return err // the lab is gone
		}
		go func() {
			reply := r.do()
			mu.Lock()
			defer mu.Unlock()
			if err := replies.Encode(reply); err != nil {
				fmt.Fprintln(os.Stderr, "reply:", err)
			}
		}()
	}
}

func (r *guestRequest) do() guestReply {
	var out []byte
	var err error
	switch {
	case r.Write != "":
		if err = os.MkdirAll(filepath.Dir(r.Write), 0o755); err == nil {
			err = os.WriteFile(r.Write, r.Stdin, 0o644)
		}
	case r.Read != "":
		out, err = os.ReadFile(r.Read)
	case r.Helper != "":
		err = helper(strings.Fields(r.Helper))
	case r.SAs != "":
		out, err = viciSAs(context.Background(), r.SAs)
	case r.End != "":
		err = endProgram(r.End)
	default:
		return r.command()
	}
	if err != nil {
		return guestReply{ID: r.ID, Fault: err.Error()}
	}
	return guestReply{ID: r.ID, Out: out}
}

// endProgram kills the processes of a program, and takes all SAs and policies out of the kernel.
func endProgram(name string) error {
	pids, err := pidsOf(name)
	for ; err == nil && len(pids) > 0; pids, err = pidsOf(name) {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // of a parent that is dead it is a child of this process
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.Join(err, netlink.XfrmPolicyFlush(), netlink.XfrmStateFlush(0))
}

// pidsOf is the processes of a program that have not ended.
func pidsOf(name string) (pids []int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// "17 (iked) S …"
		if rest, ok := strings.CutPrefix(string(stat[bytes.IndexByte(stat, '(')+1:]), name+") "); ok && rest[0] != 'Z' {
			pid, _, _ := bytes.Cut(stat, []byte(" "))
			n, err := strconv.Atoi(string(pid))
			if err != nil {
				return nil, err
			}
			pids = append(pids, n)
		}
	}
	return pids, err
}

func (r *guestRequest) command() guestReply {
	reply := guestReply{ID: r.ID}
	// A file and no pipe: a daemon that the command leaves behind may hold it open.
	out, err := os.CreateTemp("/run", "out-")
	if err != nil {
		reply.Fault = err.Error()
		return reply
	}
	defer func() { _ = os.Remove(out.Name()); _ = out.Close() }()
	cmd := exec.Command(r.Args[0], r.Args[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	var faults bytes.Buffer
	if r.Quiet {
		cmd.Stderr = &faults
	}
	if len(r.Stdin) > 0 {
		cmd.Stdin = strings.NewReader(string(r.Stdin))
	}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		reply.Code = exit.ExitCode()
	case err != nil:
		reply.Fault = err.Error()
	}
	if reply.Out, err = os.ReadFile(out.Name()); err != nil {
		reply.Fault = err.Error()
	}
	if reply.Code != 0 {
		reply.Out = append(reply.Out, faults.Bytes()...)
	}
	return reply
}

// serialLine is the wire to the lab, made to carry bytes as they are.
func serialLine() (*os.File, error) {
	line, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	mode, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	return line, unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, mode)
}

func guestSetup() error {
	for key, value := range map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8", helperEnv: ""} {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	kernel := unix.ByteSliceToString(name.Release[:])
	modules := filepath.Join(umlModules, kernel)
	if err := mounts([]mount{{"proc", "/proc", "proc", 0, ""}, {"sysfs", "/sys", "sysfs", 0, ""}, {"tmpfs", "/run", "tmpfs", 0, ""}}); err != nil {
		return err
	}
	overlay, err := filepath.Glob(modules + "/kernel/fs/overlayfs/overlay.ko*")
	if err != nil || len(overlay) != 1 {
		return fmt.Errorf("%s has no overlay.ko", modules)
	}
	if out, err := run("insmod", overlay[0]); err != nil {
		return fmt.Errorf("insmod: %w: %s", err, out)
	}
	if err := coverRoot(); err != nil {
		return err
	}
	if err := os.MkdirAll("/lib/modules", 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.Symlink(modules, "/lib/modules/"+kernel), os.Symlink("/proc/self/fd", "/dev/fd")); err != nil {
		return err
	}
	if out, err := run("modprobe", append([]string{"-a"}, guestModules...)...); err != nil {
		return fmt.Errorf("modprobe: %w: %s", err, out)
	}
	// Addresses can be used at once.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644); err != nil {
		return err
	}
	out, err := run("ip", "link", "set", "lo", "up")
	if err != nil {
		err = fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	return err
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mounts(list []mount) error {
	for _, m := range list {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// coverRoot makes / the computer's files under a layer of memory, in /run, that
// takes all writes; /run itself is empty.
func coverRoot() error {
	for _, dir := range []string{"/run/upper", "/run/work", "/run/root"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	const root = "/run/root"
	if err := mounts([]mount{
		{"root", root, "overlay", 0, "lowerdir=/,upperdir=/run/upper,workdir=/run/work"},
		{"tmpfs", root + "/run", "tmpfs", 0, "mode=755"},
		{"/dev", root + "/dev", "", unix.MS_MOVE, ""},
		{"/proc", root + "/proc", "", unix.MS_MOVE, ""},
		{"/sys", root + "/sys", "", unix.MS_MOVE, ""},
	}); err != nil {
		return err
	}
	if err := os.Mkdir(root+"/run/old", 0o755); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, root+"/run/old"); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/run/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount /run/old: %w", err)
	}
	return errors.Join(os.Remove("/run/old"), mounts([]mount{
		{"devpts", "/dev/pts", "devpts", 0, ""},
		{"tmpfs", "/dev/shm", "tmpfs", 0, ""},
	}))
}
