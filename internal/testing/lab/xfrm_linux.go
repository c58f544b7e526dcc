package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// KernelSA is one direction of an SA as the Linux kernel reports it (`ip -s xfrm state`).
type KernelSA struct {
	Src, Dst  string
	Proto     string   // "esp" or "ah"
	SPI       string   // eight hexadecimal digits
	Mode      string   // "tunnel" or "transport"
	Flags     []string // "esn", "align4", "af-unspec", …
	Algorithm string   // "cbc(aes) hmac(sha256)", "rfc4106(gcm(aes))"
	KeyBits   int      // of the cipher, salt included; 0 with AH
	ICVBits   int
	Encap     bool   // ESP in UDP
	Window    int    // replay window in packets
	Sent      uint64 // sequence number of the last packet that it sent
	Bytes     uint64
	Packets   uint64
	Failed    uint64 // packets that were late, replayed or did not open

	keys []string // algorithms and keys, as arguments for `ip xfrm state add`
	opts []string // the rest of them
}

// Has says whether the SA has a flag.
func (s *KernelSA) Has(flag string) bool { return slices.Contains(s.Flags, flag) }

// Add is the command that makes this SA, with other flags and more options.
func (s *KernelSA) Add(flags []string, more ...string) []string {
	args := []string{"ip", "xfrm", "state", "add", "src", s.Src, "dst", s.Dst, "proto", s.Proto, "spi", "0x" + s.SPI}
	args = append(append(args, s.opts...), "replay-window", strconv.Itoa(s.Window))
	args = append(append(args, s.keys...), more...)
	for _, f := range flags {
		args = append(args, "flag", f)
	}
	return args
}

// Delete is the command that takes this SA away.
func (s *KernelSA) Delete() []string {
	return []string{"ip", "xfrm", "state", "delete", "src", s.Src, "dst", s.Dst, "proto", s.Proto, "spi", "0x" + s.SPI}
}

// parseXfrm reads the output of `ip -s xfrm state`: a line of addresses for each
// SA, and indented lines of words.
func parseXfrm(text string) ([]KernelSA, error) {
	var sas []KernelSA
	var sa *KernelSA
	section := ""
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if line[0] != ' ' && line[0] != '\t' {
			if len(w) < 4 || w[0] != "src" || w[2] != "dst" {
				return nil, fmt.Errorf("ip xfrm state has a line of no known form: %q", line)
			}
			sas = append(sas, KernelSA{Src: w[1], Dst: w[3]})
			sa, section = &sas[len(sas)-1], ""
			continue
		}
		if sa == nil {
			return nil, fmt.Errorf("ip xfrm state begins with %q", line)
		}
		if strings.HasSuffix(line, ":\n") {
			section = strings.TrimSuffix(strings.TrimSpace(line), ":")
		}
		if err := sa.line(section, w); err != nil {
			return nil, fmt.Errorf("ip xfrm state: %q: %w", line, err)
		}
	}
	return sas, nil
}

// line reads the words of one line.
func (s *KernelSA) line(section string, w []string) error {
	after := func(word string) string {
		if i := slices.Index(w, word); i >= 0 && i+1 < len(w) {
			return w[i+1]
		}
		return ""
	}
	var err error
	number := func(text string) (n uint64) {
		if text != "" && err == nil {
			n, err = strconv.ParseUint(text, 0, 64)
		}
		return n
	}
	switch {
	case w[0] == "proto":
		s.Proto, s.Mode = after("proto"), after("mode")
		s.SPI = fmt.Sprintf("%08x", number(strings.SplitN(after("spi"), "(", 2)[0]))
		s.opts = append(s.opts, "reqid", strings.SplitN(after("reqid"), "(", 2)[0], "mode", s.Mode)
	case w[0] == "replay-window" && section == "":
		s.Window = int(number(after("replay-window")))
		if i := slices.Index(w, "flag"); i >= 0 {
			s.Flags = w[i+1:]
			if j := slices.IndexFunc(s.Flags, func(f string) bool { return strings.HasPrefix(f, "(0x") }); j >= 0 {
				s.Flags = s.Flags[:j]
			}
			if len(s.Flags) == 0 {
				s.Flags = nil
			}
		}
	case w[0] == "anti-replay" || strings.HasPrefix(w[0], "seq-hi"):
		s.Sent = number(strings.TrimSuffix(after("oseq-hi"), ","))<<32 | number(strings.TrimSuffix(after("oseq"), ","))
	case w[0] == "replay_window" && len(w) > 1: // with extended sequence numbers
		s.Window = int(number(strings.TrimSuffix(w[1], ",")))
	case w[0] == "auth-trunc" || w[0] == "enc" || w[0] == "aead":
		w = slices.DeleteFunc(w, func(x string) bool { return x == "bits)" || strings.HasPrefix(x, "(") })
		if len(w) == 2 && w[0] == "enc" {
			w = append(w, "") // the key of no cipher
		}
		if len(w) < 3 || len(w) < 4 && w[0] != "enc" {
			return fmt.Errorf("%d words", len(w))
		}
		s.Algorithm = strings.TrimSpace(s.Algorithm + " " + w[1])
		words := 3
		if w[0] != "auth-trunc" {
			s.KeyBits = len(strings.TrimPrefix(w[2], "0x")) / 2 * 8
		}
		if w[0] != "enc" {
			s.ICVBits, words = int(number(w[3])), 4
		}
		s.keys = append(s.keys, w[:words]...)
	case w[0] == "encap":
		s.Encap = true
		s.opts = append(s.opts, "encap", after("type"), after("sport"), after("dport"), "0.0.0.0")
	case strings.HasPrefix(section, "lifetime current") && strings.HasSuffix(w[0], "(bytes),"):
		s.Bytes = number(strings.TrimSuffix(w[0], "(bytes),"))
		s.Packets = number(strings.TrimSuffix(w[1], "(packets)"))
	case section == "stats" && w[0] == "replay-window":
		for _, word := range []string{"replay-window", "replay", "failed"} {
			s.Failed += number(after(word))
		}
	}
	return err
}

// KernelSAs lists the SAs of the guest's kernel.
func (g *Guest) KernelSAs() ([]KernelSA, error) {
	text, err := g.Try("ip", "-s", "xfrm", "state")
	if err != nil {
		return nil, err
	}
	return parseXfrm(text)
}

// KernelErrors are the counters of /proc/net/xfrm_stat that are not 0: packets
// that the kernel's IPsec dropped, by reason.
func (g *Guest) KernelErrors() (map[string]uint64, error) {
	text, err := g.Read("/proc/net/xfrm_stat")
	if err != nil {
		return nil, err
	}
	errs := map[string]uint64{}
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 2 {
			return nil, fmt.Errorf("xfrm_stat: %q", line)
		}
		n, err := strconv.ParseUint(w[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("xfrm_stat: %w", err)
		}
		if n > 0 {
			errs[w[0]] = n
		}
	}
	return errs, nil
}
