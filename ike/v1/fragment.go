package v1

import (
	"bytes"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Fragmentation, as Cisco and Microsoft have it ([MS-IKEE] §3.1.5, vendor ID FRAGMENTATION): a whole message, its
// header included, is cut, and each part travels as the only payload of a message in clear. Nothing authenticates
// a part, so that what is put together counts no more than a message that came whole.
//
// Fragments have the exchange type of phase 1 and message ID 0, whatever exchange their message is of: so do most, and
// some peers look at nothing else. What a peer writes there is not looked at. Some also set the encryption bit (racoon, Cisco).

// fragmentLife is how long the fragments of a message are waited for.
const fragmentLife = 30 * time.Second

// fragments are those of the peer's message that is not whole yet.
type fragments struct {
	sa    *SA
	id    uint16
	last  int // the number of the last one; 0: it has not come
	got   ikesa.Pieces
	timer *core.Timer
	cut   uint16 // the number of our last message that was cut
}

// split is a message as it travels: in fragments where it is too long and the peer takes them.
func (p *fragments) split(raw []byte) [][]byte {
	sa := p.sa
	longest := ikesa.LongestMessage(sa.base.Host)
	if len(raw) <= longest || !sa.base.Peer.Profile.Fragmentation || !sa.peer.fragments {
		return [][]byte{raw}
	}
	size := longest - message.HeaderLen - isakmp.FragmentOverhead
	if len(raw) > ikesa.MaxPieces*size {
		return [][]byte{raw} // IP may get it there
	}
	p.cut++
	var out [][]byte
	for n := uint8(1); len(raw) > 0; n++ {
		part := raw[:min(size, len(raw))]
		raw = raw[len(part):]
		f := &isakmp.Fragment{ID: p.cut, Number: n, Last: len(raw) == 0, Data: part}
		out = append(out, isakmp.Append(nil, sa.header(sa.exchange, 0), []isakmp.Payload{f}))
	}
	return out
}

// take takes in a fragment; whole is its message once all of that are here, else nil.
func (p *fragments) take(m *isakmp.Message) (whole []byte, err error) {
	sa := p.sa
	f, ok := m.Payloads[0].(*isakmp.Fragment)
	switch {
	case !ok || len(m.Payloads) > 1:
		return nil, drop("a fragment beside other payloads")
	case !sa.base.Peer.Profile.Fragmentation:
		return nil, drop("a fragment, and fragmentation is off in profile %q", sa.base.Peer.Profile.Name)
	case f.Number > ikesa.MaxPieces:
		return nil, drop("too many fragments")
	}
	n := int(f.Number)
	old := p.got.Get(n)
	if old != nil && p.id == f.ID && bytes.Equal(old, f.Data) {
		return nil, nil
	}
	// Some peers give all messages one number (strongSwan).
	if p.id != f.ID || old != nil || p.last != 0 && (f.Last || n > p.last) || f.Last && p.got.Top() > n {
		p.forget()
	}
	p.id = f.ID
	if f.Last {
		p.last = n
	}
	if !p.got.Put(n, f.Data) {
		p.forget()
		return nil, drop("the fragments are too long together")
	}
	if p.timer == nil {
		p.timer = sa.base.Env.After(fragmentLife, p.forget)
	}
	if p.last == 0 {
		return nil, nil
	}
	if whole = p.got.Whole(p.last); whole != nil {
		p.forget()
	}
	return whole, nil
}

// read reads a message that was put together.
func (p *fragments) read(raw []byte) (*isakmp.Message, error) {
	m, err := isakmp.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case m.Next == isakmp.TypeFragment:
		return nil, drop("a fragment in fragments")
	case !addressed(p.sa, m):
		return nil, drop("the cookies in fragments are of no IKE SA")
	}
	return m, nil
}

// forget gives up the message that is not whole.
func (p *fragments) forget() {
	p.sa.base.Env.Timers.Stop(p.timer)
	p.timer, p.last, p.got = nil, 0, ikesa.Pieces{}
}
