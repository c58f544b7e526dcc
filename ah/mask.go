package ah

import "culvert/internal/packet/wire"

// What of the headers in front of the AH the ICV covers: fields that the path
// may change count as zero, and what it changes foreseeably counts as it will
// be at the destination (RFC 4302 §3.3.3.1, appendix A).

// mask rewrites the IP header h, which ends where the AH begins, into what the
// ICV covers. sealing: the packet has not travelled yet, so that a source route
// is brought to its end. False: malformed, h is not defined.
func mask(h []byte, sealing bool) bool {
	if h[0]>>4 == 4 {
		return mask4(h, sealing)
	}
	return mask6(h)
}

// mask4 zeroes TOS (DSCP, ECN), flags and fragment offset, TTL and checksum.
func mask4(h []byte, sealing bool) bool {
	h[1], h[6], h[7], h[8], h[10], h[11] = 0, 0, 0, 0, 0, 0
	opts := h[wire.IPv4HeaderLen:]
	for len(opts) > 0 {
		kind := opts[0]
		switch kind {
		case optEnd:
			return true
		case optNop:
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return false
		}
		opt := opts[:opts[1]]
		opts = opts[len(opt):]
		if (kind == optLooseRoute || kind == optStrictRoute) && sealing {
			if len(opt) < 7 {
				return false
			}
			if int(opt[2]) <= len(opt) { // else its end was reached (RFC 791 §3.1)
				copy(h[16:], opt[len(opt)-4:])
			}
		}
		if !immutable(kind) {
			clear(opt)
		}
	}
	return true
}

// IPv4 options, with their copy and class bits.
const (
	optEnd         = 0
	optNop         = 1
	optSecurity    = 130
	optLooseRoute  = 131
	optExtSecurity = 133
	optCIPSO       = 134
	optStrictRoute = 137
	optRouterAlert = 148
	optMultiDest   = 149
)

// immutable are the options that no router changes (RFC 4302 appendix A1); all
// others, unknown ones too, count as zero as a whole.
func immutable(kind uint8) bool {
	switch kind {
	case optSecurity, optExtSecurity, optCIPSO, optRouterAlert, optMultiDest:
		return true
	}
	return false
}

// mask6 zeroes traffic class, flow label and hop limit, and goes through the
// extension headers, which are whole.
func mask6(h []byte) bool {
	h[0], h[1], h[2], h[3], h[7] = 0x60, 0, 0, 0, 0
	next, rest := h[6], h[wire.IPv6HeaderLen:]
	for len(rest) > 0 {
		ext := rest[:8+int(rest[1])*8]
		ok := false
		switch next {
		case wire.ProtoHopByHop, wire.ProtoDstOpts:
			ok = maskOptions(ext[2:])
		case wire.ProtoRouting:
			ok = maskRouting(ext, h[24:40])
		}
		if !ok {
			return false
		}
		next, rest = ext[0], rest[len(ext):]
	}
	return true
}

// maskOptions zeroes the data of options whose type says that it may change on
// the way: its third highest bit (RFC 8200 §4.2).
func maskOptions(opts []byte) bool {
	for len(opts) > 0 {
		if opts[0] == 0 { // Pad1
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || 2+int(opts[1]) > len(opts) {
			return false
		}
		n := 2 + int(opts[1])
		if opts[0]&0x20 != 0 {
			clear(opts[2:n])
		}
		opts = opts[n:]
	}
	return true
}

// maskRouting brings a routing header of type 0 or 2 and the destination
// address to what they are at the last station: each station swaps the next
// address of the list with the destination. At the last one nothing is left to swap.
func maskRouting(ext, dst []byte) bool {
	left := int(ext[3])
	if left == 0 {
		return true
	}
	count := int(ext[1]) / 2
	if ext[2] != 0 && ext[2] != 2 || ext[1]%2 != 0 || left > count {
		return false
	}
	for ; left > 0; left-- {
		var was [16]byte
		addr := ext[8+16*(count-left):][:16]
		copy(was[:], dst)
		copy(dst, addr)
		copy(addr, was[:])
	}
	ext[3] = 0
	return true
}
