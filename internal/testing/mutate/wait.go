package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A process that waits for ever is ended when it and the programs that it started have been asleep for long
// enough. A second in which one of their threads waited for a processor does not count: on a busy machine that
// can take any time.

// asleep is how much of a second a thread may wait for a processor for it to count as asleep.
const asleep = time.Second / 10

// awaitEnd returns how a process ended. Each tick is a second. delay is how long its threads have waited for a
// processor until now; where that hardly changes for so long as most, kill is called.
func awaitEnd(ended <-chan error, ticks <-chan time.Time, most time.Duration, delay func() time.Duration, kill func()) error {
	for last := delay(); ; {
		select {
		case err := <-ended:
			return err
		case <-ticks:
			now := delay()
			if (now - last).Abs() < asleep {
				most -= time.Second
			}
			last = now
			if most == 0 {
				kill()
			}
		}
	}
}

// delay is how long the threads of a process and its descendants have waited for a processor, as proc, the
// file system of that name, has it. Where there is none it is 0.
func delay(proc string, pid int) (sum time.Duration) {
	stats, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	parents := map[int]int{}
	for _, name := range stats {
		b, _ := os.ReadFile(name) // it may have ended
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if i := strings.LastIndexByte(string(b), ')'); i >= 0 { // behind the name, which may have anything
			var state string
			var parent int
			_, _ = fmt.Sscan(string(b[i+1:]), &state, &parent)
			parents[n] = parent
		}
	}
	for n := range parents {
		for p := n; p != 0; p = parents[p] {
			if p == pid {
				sum += delayOf(filepath.Join(proc, strconv.Itoa(n)))
				break
			}
		}
	}
	return sum
}

// delayOf adds up the threads of one process.
func delayOf(dir string) (sum time.Duration) {
	threads, _ := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
	for _, name := range threads {
		b, _ := os.ReadFile(name)
		var ran, waited int64 // nanoseconds
		if n, _ := fmt.Sscan(string(b), &ran, &waited); n == 2 {
			sum += time.Duration(waited)
		}
	}
	return sum
}
