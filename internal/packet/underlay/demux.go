package underlay

// minIKE is the IKE header alone (RFC 7296 §3.1), minESP an SPI and a sequence
// number (RFC 4303 §2).
const (
	minIKE = 28
	minESP = 8
	// maxIP is the longest IP packet that is sent raw.
	maxIP = 65535
)

// classify tells what a datagram is and where its payload starts. On the NAT-T
// port IKE follows four zero bytes, since no SPI is zero (RFC 3948 §2.2); the
// IKE port carries nothing but IKE. What can be neither is not ok.
func classify(natt bool, b []byte) (kind Kind, off int, ok bool) {
	switch {
	case !natt:
		return IKE, 0, len(b) >= minIKE
	case len(b) == 1:
		return Keepalive, 0, b[0] == 0xFF
	case len(b) < minESP:
		return 0, 0, false
	case b[0]|b[1]|b[2]|b[3] == 0:
		return IKE, MarkerLen, len(b) >= MarkerLen+minIKE
	}
	return ESP, 0, true
}

// frame is what goes on the wire for p: the marker is put in front of IKE on
// the NAT-T port. Not ok: no room for it, or ESP on the IKE port.
func (p *Packet) frame(natt bool) (wire []byte, ok bool) {
	if p.Off < 0 || p.Len < 0 || p.Len > MaxDatagram || p.Off+p.Len > len(p.Buf) {
		return nil, false
	}
	switch {
	case !natt:
		return p.Data(), p.Kind == IKE
	case p.Kind != IKE:
		return p.Data(), true
	case p.Off < MarkerLen:
		return nil, false
	}
	clear(p.Buf[p.Off-MarkerLen : p.Off])
	return p.Buf[p.Off-MarkerLen : p.Off+p.Len], true
}

// isRaw says that p goes without UDP.
func (p *Packet) isRaw() bool { return p.Kind == AH || p.Kind == ESP && !p.NATT }

// frameRaw is what goes to a raw socket for p. Not ok: too long, or AH without
// its header.
func (p *Packet) frameRaw() (data []byte, ok bool) {
	if p.Off < 0 || p.Len < 0 || p.Len > maxIP || p.Off+p.Len > len(p.Buf) || p.Kind == AH && !p.Header {
		return nil, false
	}
	return p.Data(), true
}

// accept fills p with a datagram of n bytes that lies in its Buf at Headroom.
func (p *Packet) accept(n int, natt bool, local, remote addrPort) {
	kind, off, ok := classify(natt, p.Buf[Headroom:Headroom+n])
	if !ok {
		kind, off = Runt, 0
	}
	p.Off, p.Len, p.Kind, p.NATT, p.Header, p.Segment = Headroom+off, n-off, kind, natt, false, 0
	p.Local, p.Remote = local, remote
}

// Cut takes the first datagram off p, a packet that was received with a Segment, and makes it
// one; p is what is left. False when nothing is. one lies in the Buf of p, and its
// own ends with it: what is in front of it and behind it are its neighbours.
func (p *Packet) Cut(one *Packet) bool {
	if p.Len == 0 {
		return false
	}
	n := min(p.Segment, p.Len)
	kind, off, ok := classify(p.NATT, p.Buf[p.Off:p.Off+n])
	if !ok {
		kind, off = Runt, 0
	}
	*one = *p
	one.Buf = p.Buf[: p.Off+n : p.Off+n]
	one.Off, one.Len, one.Kind, one.Segment = p.Off+off, n-off, kind, 0
	p.Off += n
	p.Len -= n
	return true
}
