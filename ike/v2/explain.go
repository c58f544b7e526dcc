package v2

import (
	"fmt"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// What both sides offered when nothing came of it, for people: package sa says it, here is
// what of IKEv2 tells it.

// explain says why nothing came of something with an IKE SA.
func explain(sa *SA) explainer { return explainer{ikesa.Explainer{SA: sa.base}} }

type explainer struct{ ikesa.Explainer }

// ChildGroupParts explains a responder that wants a group for a CHILD SA that we do not
// allow, which n names.
func (e explainer) ChildGroupParts(p *core.Policy, n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	return e.Explainer.ChildGroupParts(p, uint16(n.Data[0])<<8|uint16(n.Data[1]))
}

// GroupParts explains a responder that wants a group that we do not allow.
func (e explainer) GroupParts(n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	return e.Explainer.GroupParts(uint16(n.Data[0])<<8 | uint16(n.Data[1]))
}

// mismatched is refuse with the two sides beside each other.
func mismatched(kind message.NotifyType, d *core.Mismatch, format string, a ...any) error {
	return refused{kind: kind, reason: fmt.Sprintf(format, a...), detail: d}
}

// detailOf finds what an error has to say about both sides.
func detailOf(err error) *core.Mismatch {
	switch e := err.(type) {
	case refused:
		return e.detail
	case fatal:
		return e.detail
	}
	return nil
}

// rekeyParts is what there is to compare where a CHILD SA was not rekeyed.
func (x *exchange) rekeyParts(fault error) *core.Mismatch {
	if d := detailOf(fault); d != nil {
		return d
	}
	if r, ok := fault.(refused); ok {
		return explain(x.sa).RekeyUnchosen(part[*pendingChild](x).policy, causeOf(r.kind))
	}
	return nil
}
