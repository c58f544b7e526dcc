package sa

import (
	"net/netip"
	"time"

	"culvert/ike/core"
)

// Passwords can be guessed by whoever has what comes before them, such as the secret of a group. After some wrong ones
// for one user, or from one address, no password is looked at for a while: four seconds, and longer with each, up to four minutes.

const (
	freeGuesses = 5 // wrong ones before anything happens
	forgotten   = 30 * time.Minute
	maxGuessers = 4096 // users and addresses that are remembered, each some 200 bytes
)

// Guesses are the wrong passwords of the last time. The zero value has none.
type Guesses struct {
	of    map[guesser]*guessed
	order []guesser // the oldest first
}

// guesser is a user or the network of an address.
type guesser struct {
	user string
	from netip.Prefix
}

type guessed struct {
	n    int
	last time.Time
}

func guessers(user string, from netip.Addr) [2]guesser {
	bits := 32
	if from = from.Unmap().WithZone(""); from.Is6() {
		bits = 64
	}
	net, err := from.Prefix(bits)
	if err != nil {
		net = netip.Prefix{}
	}
	return [2]guesser{{user: clipUser(user)}, {from: net}}
}

// clipUser bounds what of a name that anybody said is kept.
func clipUser(name string) string { return name[:min(len(name), 128)] }

// Pause is how long no password for a user, or from an address, is looked at.
func (g *Guesses) Pause(now time.Time, user string, from netip.Addr) (left time.Duration) {
	for _, k := range guessers(user, from) {
		if e := g.of[k]; e != nil {
			left = max(left, e.last.Add(e.pause()).Sub(now))
		}
	}
	return max(left, 0)
}

func (e *guessed) pause() time.Duration {
	if e.n < freeGuesses {
		return 0
	}
	return 4 * core.RetryWait(e.n-freeGuesses)
}

// Wrong counts a wrong password.
func (g *Guesses) Wrong(now time.Time, user string, from netip.Addr) {
	if g.of == nil {
		g.of = map[guesser]*guessed{}
	}
	for _, k := range guessers(user, from) {
		e := g.of[k]
		if e == nil {
			if len(g.order) == maxGuessers {
				delete(g.of, g.order[0])
				g.order = g.order[1:]
			}
			e = &guessed{}
			g.of[k] = e
			g.order = append(g.order, k)
		}
		if now.Sub(e.last) > forgotten {
			e.n = 0
		}
		e.n++
		e.last = now
	}
}

// Right forgets what a user got wrong before. What came from the address stays: somebody who knows one password may
// guess others.
func (g *Guesses) Right(user string) {
	if e := g.of[guesser{user: clipUser(user)}]; e != nil {
		e.n = 0
	}
}
