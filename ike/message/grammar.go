package message

import (
	"fmt"
	"slices"
)

// rule says how often a payload may stand in a message.
type rule struct {
	payload  PayloadType
	min, max int
	with     PayloadType // if set: as often as that one
}

const many = maxPayloads

// form is one shape of a message: it is the one that counts if key is there,
// or if key is NoNext. Order means nothing (RFC 7296 §2.5 lets a receiver take
// payloads in any).
type form struct {
	key   PayloadType
	rules []rule
}

// exchange is what one exchange allows: forms are tried in order.
type exchange struct {
	kind              ExchangeType
	encrypted         bool // the payloads stand in an SK payload
	request, response []form
}

// anywhere may stand in every message, and so may unknown payloads (their
// number is bounded by the parser).
var anywhere = []rule{
	{TypeNotify, 0, many, 0},
	{TypeVendorID, 0, many, 0},
}

// onlyNotifies is an answer that refuses: COOKIE, INVALID_KE_PAYLOAD, errors.
var onlyNotifies = form{rules: []rule{{TypeNotify, 1, many, 0}}}

// grammar is RFC 7296 App. C with RFC 9242, RFC 9370 and RFC 5723, as a table.
var grammar = []exchange{
	{
		kind: ExchangeIKESAInit,
		request: []form{
			{rules: []rule{{TypeSA, 1, 1, 0}, {TypeKE, 1, 1, 0}, {TypeNonce, 1, 1, 0}, {TypeCERTREQ, 0, many, 0}}},
		},
		response: []form{
			{TypeSA, []rule{{TypeSA, 1, 1, 0}, {TypeKE, 1, 1, 0}, {TypeNonce, 1, 1, 0}, {TypeCERTREQ, 0, many, 0}}},
			onlyNotifies,
		},
	},
	{
		kind: ExchangeIKEAuth, encrypted: true,
		request: []form{
			{TypeIDi, []rule{
				{TypeIDi, 1, 1, 0}, {TypeIDr, 0, 1, 0}, {TypeCERT, 0, many, 0}, {TypeCERTREQ, 0, many, 0},
				{TypeAUTH, 0, 1, 0}, {TypeCP, 0, 1, 0}, {TypeEAP, 0, 1, 0},
				{TypeSA, 0, 1, 0}, {TypeTSi, 0, 1, TypeSA}, {TypeTSr, 0, 1, TypeSA},
			}},
			{TypeEAP, []rule{{TypeEAP, 1, 1, 0}}},
			{rules: []rule{{TypeAUTH, 1, 1, 0}}}, // after EAP
		},
		response: []form{
			{TypeIDr, []rule{
				{TypeIDr, 1, 1, 0}, {TypeCERT, 0, many, 0}, {TypeAUTH, 0, 1, 0}, {TypeCP, 0, 1, 0}, {TypeEAP, 0, 1, 0},
				{TypeSA, 0, 1, 0}, {TypeTSi, 0, 1, TypeSA}, {TypeTSr, 0, 1, TypeSA},
			}},
			{TypeEAP, []rule{{TypeEAP, 1, 1, 0}}},
			{TypeAUTH, []rule{ // after EAP
				{TypeAUTH, 1, 1, 0}, {TypeCP, 0, 1, 0},
				{TypeSA, 0, 1, 0}, {TypeTSi, 0, 1, TypeSA}, {TypeTSr, 0, 1, TypeSA},
			}},
			onlyNotifies,
		},
	},
	{
		kind: ExchangeCreateChildSA, encrypted: true,
		request: []form{
			// A new CHILD SA, or with REKEY_SA the successor of one.
			{TypeTSi, []rule{
				{TypeSA, 1, 1, 0}, {TypeNonce, 1, 1, 0}, {TypeKE, 0, 1, 0}, {TypeCP, 0, 1, 0},
				{TypeTSi, 1, 1, 0}, {TypeTSr, 1, 1, 0},
			}},
			// The successor of the IKE SA; a missing KE is answered by its task.
			{rules: []rule{{TypeSA, 1, 1, 0}, {TypeNonce, 1, 1, 0}, {TypeKE, 0, 1, 0}}},
		},
		response: []form{
			{TypeSA, []rule{
				{TypeSA, 1, 1, 0}, {TypeNonce, 1, 1, 0}, {TypeKE, 0, 1, 0}, {TypeCP, 0, 1, 0},
				{TypeTSi, 0, 1, 0}, {TypeTSr, 0, 1, TypeTSi},
			}},
			onlyNotifies,
		},
	},
	{
		kind: ExchangeInformational, encrypted: true,
		request:  []form{{rules: []rule{{TypeDelete, 0, many, 0}, {TypeCP, 0, 1, 0}}}},
		response: []form{{rules: []rule{{TypeDelete, 0, many, 0}, {TypeCP, 0, 1, 0}}}},
	},
	{
		kind:    ExchangeSessionResume,
		request: []form{{rules: []rule{{TypeNonce, 1, 1, 0}}}},
		response: []form{
			{TypeNonce, []rule{{TypeNonce, 1, 1, 0}}},
			onlyNotifies,
		},
	},
	{
		kind: ExchangeIntermediate, encrypted: true,
		request:  []form{{rules: []rule{{TypeKE, 0, 1, 0}}}},
		response: []form{{rules: []rule{{TypeKE, 0, 1, 0}}}},
	},
	{
		kind: ExchangeFollowUpKE, encrypted: true,
		request:  []form{{rules: []rule{{TypeKE, 1, 1, 0}}}},
		response: []form{{rules: []rule{{TypeKE, 0, 1, 0}}}},
	},
}

// CheckOuter checks the chain of a message before anything is decrypted: in an
// exchange that is encrypted there is one payload, SK or SKF; in one that is not
// there is no SK. RFC 7296 §3.14 does not forbid payloads in clear before SK, but
// no exchange has any. They are refused here: they mean nothing, and would cost
// memory and time before anybody has proved anything. An exchange that is not
// known here is one that is encrypted: whether it is to be answered is known once
// it is proved authentic. The error is a *SyntaxError.
//
// Answers that a peer gives without an SA (INVALID_IKE_SPI and the like,
// RFC 7296 §1.5) are in clear and fail here: they prove nothing.
func CheckOuter(h Header, payloads []Payload) error {
	encrypted := true
	if x, err := exchangeOf(h); err == nil {
		encrypted = x.encrypted
	}
	sealed := false
	for _, p := range payloads {
		switch p.(type) {
		case *Encrypted, *EncryptedFragment:
			sealed = true
		case *Unknown, *Notify, *VendorID:
		default:
			if encrypted {
				return &SyntaxError{p.Type(), "not encrypted in " + nameOf(h)}
			}
		}
	}
	if sealed != encrypted {
		return &SyntaxError{TypeSK, map[bool]string{true: "not allowed in ", false: "missing in "}[sealed] + nameOf(h)}
	}
	if encrypted && len(payloads) > 1 {
		return &SyntaxError{payloads[0].Type(), "in clear before the SK payload of " + nameOf(h)}
	}
	return nil
}

// CheckGrammar checks which payloads a message has and how often. payloads are
// the contents of the SK payload where the exchange is encrypted (CheckOuter
// has seen to it that they were), else the clear ones. The error is a
// *SyntaxError.
func CheckGrammar(h Header, payloads []Payload) error {
	x, err := exchangeOf(h)
	if err != nil {
		return err
	}
	var count [256]int
	for _, p := range payloads {
		if _, unknown := p.(*Unknown); !unknown {
			count[p.Type()]++
		}
	}
	forms := x.request
	if h.Response() {
		forms = x.response
	}
	for _, f := range forms {
		if f.key == NoNext || count[f.key] > 0 {
			return f.check(h, count)
		}
	}
	return &SyntaxError{NoNext, "no form of " + nameOf(h)}
}

// PassOver removes payloads from an encrypted message whose known type no form of its exchange has. Some peers
// send them, for example a Nonce in IKE_AUTH, and the message proves who sent it. Payloads of an expected type
// stay, so a second one is still refused where one is allowed. It returns the payloads that stay and the types
// that it removed. It changes no message of an exchange in clear.
func PassOver(h Header, payloads []Payload) (kept []Payload, passed []PayloadType) {
	x, err := exchangeOf(h)
	if err != nil || !x.encrypted {
		return payloads, nil
	}
	forms := x.request
	if h.Response() {
		forms = x.response
	}
	kept = make([]Payload, 0, len(payloads))
	for _, p := range payloads {
		if _, unknown := p.(*Unknown); unknown || expected(forms, p.Type()) {
			kept = append(kept, p)
		} else {
			passed = append(passed, p.Type())
		}
	}
	return kept, passed
}

// expected reports whether a form has payloads of a type.
func expected(forms []form, t PayloadType) bool {
	has := func(r rule) bool { return r.payload == t }
	return slices.ContainsFunc(anywhere, has) || slices.ContainsFunc(forms, func(f form) bool { return slices.ContainsFunc(f.rules, has) })
}

func (f form) check(h Header, count [256]int) error {
	left := count
	for _, r := range anywhere {
		left[r.payload] = 0
	}
	for _, r := range f.rules {
		n := count[r.payload]
		left[r.payload] = 0
		switch {
		case n < r.min:
			return &SyntaxError{r.payload, "missing in " + nameOf(h)}
		case n > r.max:
			return &SyntaxError{r.payload, fmt.Sprintf("%d times in %s, at most %d allowed", n, nameOf(h), r.max)}
		case r.with != NoNext && n != count[r.with]:
			return &SyntaxError{r.payload, fmt.Sprintf("must come together with %s in %s", r.with, nameOf(h))}
		}
	}
	for t, n := range left {
		if n > 0 {
			return &SyntaxError{PayloadType(t), "not allowed in " + nameOf(h)}
		}
	}
	return nil
}

func exchangeOf(h Header) (*exchange, error) {
	for i := range grammar {
		if grammar[i].kind == h.Exchange {
			return &grammar[i], nil
		}
	}
	return nil, &SyntaxError{NoNext, h.Exchange.String() + " is not an exchange we know"}
}

func nameOf(h Header) string {
	if h.Response() {
		return "the response of " + h.Exchange.String()
	}
	return "the request of " + h.Exchange.String()
}
