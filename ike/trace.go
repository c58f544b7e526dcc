package ike

import (
	"culvert/ike/core"
	"culvert/ike/message"
)

// Trace has f called with every message of an IKE SA as it is in clear: as it
// arrived and was found genuine (IKE_SA_INIT, which nothing protects, as it was
// read), or before it is sealed. body is borrowed and holds secrets. nil: no more.
func (e *Endpoint) Trace(f func(sent bool, h message.Header, body []message.Payload)) {
	e.env.Trace = f
}

// Witness has w see, and overrule, what takes secrets or chance. nil: nobody.
func (e *Endpoint) Witness(w core.Witness) { e.env.Witness = w }
