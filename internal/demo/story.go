package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// story is what the user reads, line by line, from several goroutines. At its
// end there may be a line that is written anew again and again.
type story struct {
	out   io.Writer
	live  bool // a terminal, where a line can be written anew
	began time.Time

	mu      sync.Mutex
	open    bool     // the line at the end is one of progress
	events  []string // the newest
	failure error    // of out
}

// eventsKept is how many events an error tells.
const eventsKept = 6

func newStory(o Options) *story {
	return &story{out: o.Out, live: !o.Plain && isTerminal(o.Out), began: time.Now()}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// say writes lines.
func (s *story) say(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(fmt.Sprintf(format, a...) + "\n")
}

func (s *story) write(text string) {
	if s.open {
		text = "\n" + text
		s.open = false
	}
	if _, err := io.WriteString(s.out, text); err != nil && s.failure == nil {
		s.failure = err
	}
}

// progress writes a line that the next progress replaces; without a terminal
// it stays.
func (s *story) progress(format string, a ...any) {
	if !s.live {
		s.say(format, a...)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	s.write("\r" + fmt.Sprintf(format, a...) + "\x1b[K")
	s.open = true
}

// happened writes a line with the time since the beginning.
func (s *story) happened(who, what string) {
	line := fmt.Sprintf("  %7.1f ms  %-7s  %s", float64(time.Since(s.began).Microseconds())/1000, who, what)
	s.say("%s", line)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, strings.TrimSpace(line))
	s.events = s.events[max(0, len(s.events)-eventsKept):]
}

func (s *story) event(site string, e core.Event) {
	text := e.Kind.String()
	switch e.Kind {
	case core.EvIKEUp:
		text += ": the IKE SA with " + e.Peer + " is established"
	case core.EvChildUp:
		text += ": the SAs of the policy are installed"
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	s.happened(site, text)
}

// message tells of an IKE message on the network.
func (s *story) message(from, to string, h message.Header, size int) {
	kind := "request"
	if h.Response() {
		kind = "response"
	}
	s.happened("network", fmt.Sprintf("%s > %s  %v %s %d, %d bytes", from, to, h.Exchange, kind, h.ID, size))
}

// Write takes the gateways' own log, which has something to say only when
// something is wrong.
func (s *story) Write(line []byte) (int, error) {
	s.happened("log", strings.TrimSpace(string(line)))
	return len(line), nil
}

// explain adds the newest events to an error.
func (s *story) explain(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return err
	}
	return fmt.Errorf("%w\nthe last events were:\n  %s", err, strings.Join(s.events, "\n  "))
}

// written ends the story and is the error of writing it, if there was one.
func (s *story) written() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write("")
	return s.failure
}

// indent sets text off from the lines around it.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return strings.TrimRight(b.String(), "\n")
}
