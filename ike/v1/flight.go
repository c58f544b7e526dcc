package v1

import (
	"crypto/sha256"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// flight is the messages of one exchange on their way. What we said last is sent again while the peer
// does not answer, if we are to see to that, and each time that the peer repeats what we answered by it:
// then it did not arrive. It is always the same bytes.
type flight struct {
	sa      *SA
	said    [][]byte          // the datagrams of our last message; nil: none yet
	heard   [sha256.Size]byte // the peer's last one
	hears   bool              // there was one
	tries   int               // how often said was sent by the timer
	repeats int               // how often because the peer repeated heard
	timer   *core.Timer
}

// say sends a message on the SA's path. It is sent core.Tries times, as long as nothing is heard, and then
// lost is called. Without lost it is sent once, and again only when the peer repeats itself.
func (f *flight) say(raw []byte, lost func()) {
	f.said, f.tries, f.repeats = f.sa.parts.split(raw), 0, 0
	f.send(lost)
}

func (f *flight) send(lost func()) {
	env := f.sa.base.Env
	env.Timers.Stop(f.timer)
	if f.tries == core.Tries {
		lost()
		return
	}
	f.sa.base.Transmit(f.sa.base.Path, f.said)
	if lost != nil {
		f.timer = env.After(core.RetransmitWait(f.tries), func() { f.send(lost) })
	}
	f.tries++
}

// repeated reports whether the peer says again what it said last. It gets the same answer on the
// path that it came on, as often as one like us repeats itself: who sends from an address that is not its
// own must not have us send more than that.
func (f *flight) repeated(raw []byte, in core.Datagram) bool {
	if !f.hears || sha256.Sum256(raw) != f.heard {
		return false
	}
	if f.said != nil && f.repeats < core.Tries {
		f.repeats++
		f.sa.base.Transmit(ikesa.PathOf(in), f.said)
	}
	return true
}

// hear notes that the peer answered, or began: what we said has arrived.
func (f *flight) hear(raw []byte) {
	f.heard, f.hears, f.said = sha256.Sum256(raw), true, nil
	f.stop()
}

func (f *flight) stop() { f.sa.base.Env.Timers.Stop(f.timer) }
