package ike

import (
	"testing"

	"culvert/ike/core"
)

// What happens when both ends of an IKE SA do something at the same time, and
// messages are late or lost on top of that: the scenarios of RFC 7296 §2.8.1,
// §2.8.2 and §2.25, and those that other implementations found.
var collisions = []struct {
	name   string
	script string
	want   string
	// downs is how often a CHILD SA is reported to be down, by a and by b; -1:
	// that hangs on who wins.
	downs [2]int
}{
	{"child rekey", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		a? D
		b! D`, "up", [2]int{}},
	{"child rekey by the responder", `
		b rekeys child
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! SA Nonce TSi TSr
		b? D
		a! D`, "up", [2]int{}},

	// While b waits for a's Delete of what a has rekeyed, b's own limits do nothing.
	{"child rekey, responder ignores its soft limit", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b rekeys child
		b! SA Nonce TSi TSr
		a? D
		b! D`, "up", [2]int{}},
	// At its hard limit b deletes the old one itself.
	{"child rekey, responder at its hard limit", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b ends child
		b? D
		a! D
		b! SA Nonce TSi TSr`, "up", [2]int{1, 0}},
	// The new one is deleted by who did not begin the rekey, before its maker has
	// even heard of it: the old one serves on, and is rekeyed later.
	{"child rekey, response comes after the delete of the new one", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b ends new
		b? D
		a! 
		b! SA Nonce TSi TSr
		wait 5s
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		a? D
		b! D`, "up", [2]int{}},
	{"child rekey, response comes after the delete of both", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b deletes child
		b? D
		a! D
		b? D
		a! 
		b! SA Nonce TSi TSr`, "childless", [2]int{1, 1}}, // b said of the old one that it was rekeyed
	{"child created, response comes after its delete", `
		a deletes child
		a? D
		b! D
		a wants child
		a? SA Nonce TSi TSr
		b deletes child
		b? D
		a! 
		b! SA Nonce TSi TSr`, "childless", [2]int{1, 2}},
	{"child rekey of what the responder lost", `
		b deletes child
		~b? D
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! N(TEMPORARY_FAILURE)`, "childless", [2]int{1, 1}},
	// The Delete of the old one stays without an answer for a while: one end of it.
	{"child rekey, delete comes late", `
		a rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		~a? D
		wait 30s
		a? D
		~b! D
		wait 20s`, "up", [2]int{}},

	{"child rekeys collide", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		W? D
		L? D
		W! D
		L! D`, "up", [2]int{}},
	// The winner's response is late: the loser deletes its own one first.
	{"child rekeys collide, winner gets its response late", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		W! SA Nonce TSi TSr
		L? D
		W! D
		L! SA Nonce TSi TSr
		W? D
		L! D`, "up", [2]int{}},
	// The loser's response is late: the winner deletes the old one first.
	{"child rekeys collide, loser gets its response late", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		L! SA Nonce TSi TSr
		W? D
		L! D
		W! SA Nonce TSi TSr
		L? D
		W! D`, "up", [2]int{}},
	// … and then deletes the new one too, before the loser knows how it went.
	{"child rekeys collide, loser gets its response after all was deleted", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		L! SA Nonce TSi TSr
		W? D
		L! D
		W deletes child
		W? D
		L! D
		W! SA Nonce TSi TSr
		L? D
		W! D`, "childless", [2]int{-1, -1}},
	// b's request arrives when a has its answer, and deletes the old one: b learns
	// that it was too late.
	{"child rekeys collide, request late", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! N(TEMPORARY_FAILURE)
		a? D
		b! D`, "up", [2]int{}},
	{"child rekeys collide, request late, delete before its answer", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		a? D
		b! D
		a! N(TEMPORARY_FAILURE)`, "up", [2]int{}},
	// It comes when there is nothing left to rekey.
	{"child rekeys collide, request after the delete", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		a? D
		b! D
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! N(CHILD_SA_NOT_FOUND)`, "up", [2]int{}},
	{"child rekeys collide, request after the new one was deleted too", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! SA Nonce TSi TSr
		a? D
		b! D
		a deletes child
		a? D
		b! D
		b? N(REKEY_SA) SA Nonce TSi TSr
		a! N(CHILD_SA_NOT_FOUND)`, "childless", [2]int{1, 1}},

	// The loser deletes the old one, which is the winner's to do.
	{"child rekeys collide, the loser deletes the old one", `
		a rekeys child
		b rekeys child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? N(REKEY_SA) SA Nonce TSi TSr
		L ends child
		L! SA Nonce TSi TSr
		W! SA Nonce TSi TSr`, "up", [2]int{}},

	{"child delete", `
		a deletes child
		a? D
		b! D`, "childless", [2]int{1, 1}},
	{"child deletes collide", `
		a deletes child
		b deletes child
		a? D
		b? D
		a! 
		b! `, "childless", [2]int{1, 1}},
	{"child deletes collide, one comes late", `
		a deletes child
		b deletes child
		~b? D
		a? D
		b! 
		wait 5s
		b? D
		a! `, "childless", [2]int{1, 1}},
	{"child rekey and delete collide", `
		a rekeys child
		b deletes child
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? D
		b! N(TEMPORARY_FAILURE)
		a! D`, "childless", [2]int{1, 1}},
	// b's Delete is not under way any more when a's rekey has come: a does not know.
	{"child rekey and delete collide, delete late", `
		a rekeys child
		b deletes child
		~b? D
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! N(TEMPORARY_FAILURE)
		wait 1s
		rest`, "childless", [2]int{1, 1}},
	{"child rekey and delete collide, rekey late", `
		a rekeys child
		b deletes child
		~a? N(REKEY_SA) SA Nonce TSi TSr
		b? D
		a! D
		wait 5s
		a? N(REKEY_SA) SA Nonce TSi TSr
		b! N(CHILD_SA_NOT_FOUND)`, "childless", [2]int{1, 1}},

	// IKE SA and CHILD SAs at once (RFC 7296 §2.25.2).
	{"child created while the IKE SA is rekeyed", `
		b deletes child
		b? D
		a! D
		a wants child
		b rekeys ike
		a? SA Nonce TSi TSr
		b? SA Nonce KE
		b! N(TEMPORARY_FAILURE)
		a! N(TEMPORARY_FAILURE)
		rest
		wait 10s
		a wants child`, "up", [2]int{1, 1}},
	{"child rekeyed while the IKE SA is rekeyed", `
		a rekeys child
		b rekeys ike
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? SA Nonce KE
		b! N(TEMPORARY_FAILURE)
		a! N(TEMPORARY_FAILURE)`, "up", [2]int{}},
	{"child deleted while the IKE SA is rekeyed", `
		a deletes child
		b rekeys ike
		a? D
		b? SA Nonce KE
		b! D
		a! N(TEMPORARY_FAILURE)`, "childless", [2]int{1, 1}},
	{"child rekeyed while the IKE SA is deleted", `
		a rekeys child
		b deletes ike
		a? N(REKEY_SA) SA Nonce TSi TSr
		b? D(IKE)
		b! N(TEMPORARY_FAILURE)
		a! `, "down", [2]int{1, 1}},
	{"child deleted while the IKE SA is deleted", `
		a deletes child
		b deletes ike
		a? D
		b? D(IKE)
		b! 
		a! `, "down", [2]int{1, 1}},

	{"IKE rekey", `
		a rekeys ike
		a? SA Nonce KE
		b! SA Nonce KE
		a? D(IKE)
		b! `, "up", [2]int{}},
	{"IKE rekey by the responder", `
		b rekeys ike
		b? SA Nonce KE
		a! SA Nonce KE
		b? D(IKE)
		a! `, "up", [2]int{}},
	{"IKE rekeys collide", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b? SA Nonce KE
		a! SA Nonce KE
		b! SA Nonce KE
		W? D(IKE)
		L? D(IKE)
		W! 
		L! `, "up", [2]int{}},
	{"IKE rekeys collide, winner gets its response late", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b? SA Nonce KE
		W! SA Nonce KE
		L? D(IKE)
		W! 
		L! SA Nonce KE
		W? D(IKE)
		L! `, "up", [2]int{}},
	{"IKE rekeys collide, loser gets its response late", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b? SA Nonce KE
		L! SA Nonce KE
		W? D(IKE)
		L! 
		W! SA Nonce KE`, "up", [2]int{}},
	{"IKE rekeys collide, request lost", `
		a rekeys ike
		b rekeys ike
		~b? SA Nonce KE
		a? SA Nonce KE
		b! SA Nonce KE
		a? D(IKE)
		b! `, "up", [2]int{}},
	{"IKE rekeys collide, request late", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b! SA Nonce KE
		b? SA Nonce KE
		a! N(TEMPORARY_FAILURE)
		a? D(IKE)
		b! `, "up", [2]int{}},
	{"IKE rekeys collide, request late and the delete before its answer", `
		a rekeys ike
		b rekeys ike
		a? SA Nonce KE
		b! SA Nonce KE
		b? SA Nonce KE
		a? D(IKE)
		b! 
		a! N(TEMPORARY_FAILURE)`, "up", [2]int{}},
	{"IKE delete", `
		b deletes ike
		b? D(IKE)
		a! `, "down", [2]int{1, 1}},
	{"IKE deletes collide", `
		a deletes ike
		b deletes ike
		a? D(IKE)
		b? D(IKE)
		a! 
		b! `, "down", [2]int{1, 1}},
	{"IKE rekey and delete collide", `
		a rekeys ike
		b deletes ike
		a? SA Nonce KE
		b? D(IKE)
		b! N(TEMPORARY_FAILURE)
		a! `, "down", [2]int{1, 1}},
	{"IKE rekey and delete collide, delete late", `
		a rekeys ike
		b deletes ike
		a? SA Nonce KE
		b! N(TEMPORARY_FAILURE)
		b? D(IKE)
		a! `, "down", [2]int{1, 1}},
}

func TestCollisions(t *testing.T) {
	for _, c := range collisions {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(4) { // nonces fall one way and the other
				co := newCourier(t, 100+seed)
				co.play(c.script)
				co.is(c.want)
				for i, s := range []*side{co.a, co.b} {
					if n := s.count(core.EvChildDown); c.downs[i] >= 0 && n != c.downs[i] {
						t.Errorf("%s: %d times down, not %d:%s", s.name, n, c.downs[i], co.story())
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// Whatever two ends begin at the same time, in whatever order the messages
// arrive, and whichever of them is lost, both have the same in the end: this goes
// through all orders.
func TestCollisionsInEveryOrder(t *testing.T) {
	acts := []string{"rekeys child", "rekeys ike", "deletes child", "deletes ike", "ends child"}
	runs := 0
	for _, one := range acts {
		for _, other := range acts {
			for seed := range uint64(2) {
				// choices is which parcel of the bag is next, step by step, and from the
				// length of the bag on which one is lost; the last choice that can be
				// another is, until none can.
				for choices := []int{}; choices != nil; runs++ {
					c := newCourier(t, 200+seed)
					c.act("a", one)
					c.act("b", other)
					var widths []int
					lost := seed > 0 // one message at most, for one of the seeds
					for step := 0; len(c.bag) > 0 && step < 12; step++ {
						if step == len(choices) {
							choices = append(choices, 0)
						}
						n := len(c.bag)
						i := choices[step]
						p := c.bag[i%n]
						c.bag = append(c.bag[:i%n:i%n], c.bag[i%n+1:]...)
						if widths = append(widths, 2*n); lost {
							widths[step] = n
						}
						if i >= n {
							lost = true
							continue
						}
						p.deliver()
						c.run(0)
					}
					c.play("")
					c.agree()
					if t.Failed() {
						t.Fatalf("a %s, b %s, seed %d, order %v:%s", one, other, seed, choices, c.story())
					}
					choices = nextOrder(choices[:len(widths)], widths)
				}
			}
		}
	}
	t.Logf("%d orders", runs)
}

// nextOrder counts choices up, the last one fastest; nil after the last order.
func nextOrder(choices, widths []int) []int {
	for i := len(choices) - 1; i >= 0; i-- {
		if choices[i]+1 < widths[i] {
			choices[i]++
			return choices[:i+1]
		}
	}
	return nil
}

// agree checks that both ends have the same IKE SA, if any, with the same CHILD
// SA, if any, and that both seal with it.
func (c *courier) agree() {
	c.t.Helper()
	switch {
	case len(c.a.e.SAs()) == 0:
		c.is("down")
	case len(c.a.children) == 0:
		c.is("childless")
	default:
		c.is("up")
	}
}
