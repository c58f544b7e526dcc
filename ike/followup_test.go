package ike

import (
	"bytes"
	"crypto/mlkem"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
)

// A rekey of the IKE SA with an additional key exchange by a peer whose key
// derivation is from the words of RFC 9370 §2.2.4.
func TestFollowUpOfTheRFC(t *testing.T) {
	r := newRig(t, func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") })
	p := newPuppet(r, 1)
	hybrid := ikeProposal
	hybrid.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36})
	p.initOffering(hybrid)
	d, err := mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	share := func(ke *message.KE) []byte {
		shared, err := d.Decapsulate(ke.Data)
		if err != nil {
			t.Fatal(err)
		}
		return shared
	}
	public := &message.KE{Group: 36, Data: d.EncapsulationKey().Bytes()}
	intAuth := p.intermediate(t, public, share)
	id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
	proof := func(intAuth []byte) *message.Auth {
		octets := bytes.Join([][]byte{p.sent, p.nr, mac(p.p[0], id.AppendBody(nil)), intAuth}, nil)
		return &message.Auth{Method: 2, Data: mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets)}
	}
	says(t, p.auth(append([]message.Payload{id, proof(intAuth)}, p.childOffer()...)...), "IDr AUTH SA TSi TSr")

	const spii = 0x3333333333333333
	ni := nonce(3)
	in := p.request(message.ExchangeCreateChildSA, saOf(withSPI(hybrid, u64(spii))), ni,
		&message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()})
	says(t, in, "SA Nonce KE N(ADDITIONAL_KEY_EXCHANGE)")
	if got := r.established(); got != 1 {
		t.Fatalf("%d IKE SAs before the last key exchange", got)
	}
	link := findNotify(in, message.NotifyAdditionalKeyExchange)
	var spir uint64
	for _, b := range findPayload[*message.SA](in).Proposals[0].SPI {
		spir = spir<<8 | uint64(b)
	}
	var nr []byte
	p.agree(in, &nr)
	in = p.request(message.ExchangeFollowUpKE, public, &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: link.Data})
	says(t, in, "KE")
	q := *p
	q.spii, q.spir, q.ni, q.nr, q.nextID = spii, spir, ni.Data, nr, 0
	q.derive(mac(p.d, p.shared, ni.Data, nr, share(findPayload[*message.KE](in))))
	says(t, q.request(message.ExchangeInformational), "")
	// The link is used up.
	says(t, p.request(message.ExchangeFollowUpKE, public, &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: link.Data}), "N(STATE_NOT_FOUND)")
}

// A proof that does not cover the IKE_INTERMEDIATE exchanges is refused: who
// changed them would go unnoticed.
func TestIntermediateIsProven(t *testing.T) {
	r := newRig(t, func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") })
	p := newPuppet(r, 1)
	hybrid := ikeProposal
	hybrid.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36})
	p.initOffering(hybrid)
	d, err := mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	p.intermediate(t, &message.KE{Group: 36, Data: d.EncapsulationKey().Bytes()}, func(ke *message.KE) []byte {
		shared, err := d.Decapsulate(ke.Data)
		if err != nil {
			t.Fatal(err)
		}
		return shared
	})
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "N(AUTHENTICATION_FAILED)")
}
