package ike

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// seeds are the datagrams of IKEv2 in the shared vectors, where they are there.
func seeds(f *testing.F) {
	dir := filepath.Join("..", "..", "shared", "vectors", "ike-seeds", "v2")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
}

// FuzzEndpoint hands an endpoint with one SA any two datagrams, as they are or
// with the SPIs of the SA. Nothing that is not sealed touches the SA.
func FuzzEndpoint(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, spis bool) {
		r, p := settled(t)
		if spis && len(b) >= 16 {
			copy(b, append(u64(p.spii), u64(p.spir)...))
		}
		bad := r.count(core.EvBadMessage)
		r.datagram(p.addr, b)
		if n := r.count(core.EvBadMessage) - bad; n > 1 {
			t.Errorf("%d bad messages counted for one", n)
		}
		r.datagram(puppetAddr, b)
		r.pass(time.Minute)
		if len(r.take()) > 4 {
			t.Error("more answers than questions")
		}
		says(t, p.request(message.ExchangeInformational), "")
		if r.established() != 1 || len(r.children) != 1 || len(r.e.strangers.half) != 0 {
			t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
		}
	})
}

// FuzzInside is an authenticated peer that says anything at all.
func FuzzInside(f *testing.F) {
	add := func(x message.ExchangeType, response bool, ps ...message.Payload) {
		first, b := message.AppendPayloads(nil, ps)
		f.Add(uint8(x), uint8(first), b, response)
	}
	p := newPuppet(newRig(f), 1)
	for _, response := range []bool{false, true} {
		add(message.ExchangeCreateChildSA, response, append(p.childOffer(), nonce(1))...)
		add(message.ExchangeCreateChildSA, response, p.asksLine(3)...)
		add(message.ExchangeCreateChildSA, response, append(p.theRekey(p.spi-2, 1), info())...)
		add(message.ExchangeCreateChildSA, response, note(message.NotifyTSMaxQueue))
		add(message.ExchangeCreateChildSA, response, p.theRekey(p.spi-3, 1)...)
		add(message.ExchangeCreateChildSA, response, p.ikeRekey(5, 5)...)
		add(message.ExchangeCreateChildSA, response, note(message.NotifyTemporaryFailure))
		add(message.ExchangeInformational, response, deleteESP(p.spi), deleteIKE())
		add(message.ExchangeInformational, response, note(message.NotifyAuthenticationFailed), &message.Unknown{T: 99, Critical: true})
		add(message.ExchangeIKEAuth, response, &message.ID{Initiator: true, IDType: 1, Data: []byte{1, 2, 3, 4}}, &message.Auth{Method: 2})
		add(message.ExchangeInformational, response)
	}
	f.Fuzz(func(t *testing.T, x, first uint8, plain []byte, response bool) {
		if len(plain) > 60000 {
			return
		}
		r, p := settled(t)
		if response {
			r.in(core.Command{Do: core.RekeyChildren})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			r.datagram(p.addr, p.sealRaw(p.header(message.ExchangeType(x), h.ID, true), nil, message.PayloadType(first), plain))
		} else {
			r.datagram(p.addr, p.sealRaw(p.header(message.ExchangeType(x), p.nextID, false), nil, message.PayloadType(first), plain))
		}
		if n := len(r.e.SAs()); n > 2 || len(r.children) > 2 {
			t.Errorf("%d IKE SAs, %d CHILD SAs", n, len(r.children))
		}
		// Whatever it was, in the end everything goes.
		r.in(core.Command{Do: core.Shutdown})
		r.pass(4 * time.Minute)
		r.take()
		r.nothingLeft()
	})
}
