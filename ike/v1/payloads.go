package v1

import (
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// find is the first payload of a type; the zero value if there is none.
func find[T isakmp.Payload](ps []isakmp.Payload) (t T) {
	for _, p := range ps {
		if x, ok := p.(T); ok {
			return x
		}
	}
	return t
}

// notify is the first notification of a kind; nil if there is none.
func notify(ps []isakmp.Payload, kind isakmp.NotifyType) *isakmp.Notify {
	for _, p := range ps {
		if n, ok := p.(*isakmp.Notify); ok && n.Kind == kind {
			return n
		}
	}
	return nil
}

// indexID is the place of the first ID payload in a message; -1: it has none.
func indexID(c *isakmp.Chain) int {
	for i, p := range c.Payloads {
		if _, ok := p.(*isakmp.ID); ok {
			return i
		}
	}
	return -1
}

// nonceFits is what RFC 2409 §5 asks of a nonce.
func nonceFits(n *isakmp.Nonce) bool { return n != nil && len(n.Data) >= 8 && len(n.Data) <= 256 }

// nonceLen is how long ours are.
const nonceLen = 32

// idPayload is who we are. Protocol and port are 0: any other value would have to be 17 and 500 (RFC 2407
// §4.6.2), which is not where a NAT leaves it.
func idPayload(id core.ID) *isakmp.ID {
	return &isakmp.ID{IDType: uint8(id.Type), Data: []byte(id.Data)}
}

func idOf(p *isakmp.ID) core.ID {
	return core.ID{Type: core.IDType(p.IDType), Data: string(p.Data)}
}

// clone copies what is to be kept.
func clone(b []byte) []byte { return append([]byte(nil), b...) }
