package v2

import "culvert/ike/message"

// kindID names the sorts of exchanges.
type kindID uint8

const (
	initial kindID = iota
	resume
	intermediate
	authenticate
	resumedAuth
	createChild
	rekeyChild
	rekeyIKE
	followUp
	inform
)

// row is the table: which exchange runs which tasks, in this order, and which values these
// share. It is a function because tasks begin exchanges of other rows.
func row(id kindID) *kind {
	switch id {
	case initial:
		return &kind{id: id, name: "IKE_SA_INIT", wire: message.ExchangeIKESAInit, clear: true,
			tasks: func() []task {
				ke := &keyExchange{}
				return []task{ke, &redirectedInit{}, &repeatInit{ke: ke}, &ikeKeyExchange{ke: ke}, &natDetection{}, &fragmentation{}, &signatureHashes{}, &ppkSupport{}, &childlessSupport{}, &intermediateSupport{}, &redirectSupport{}, &vendor{}, &ikeKeys{ke: ke}}
			},
			failed: func(x *exchange, fault error) { x.sa.connectFailed(x.kind.name, fault) }}
	case resume:
		return &kind{id: id, name: "IKE_SESSION_RESUME", wire: message.ExchangeSessionResume, clear: true, tries: resumeTries,
			tasks: func() []task {
				ke := &keyExchange{} // which stays empty
				return []task{ke, &redirectedInit{}, &ticketRefused{}, &repeatInit{ke: ke}, &presentTicket{}, &natDetection{}, &fragmentation{}, &childlessSupport{}, &redirectSupport{}, &vendor{}, &ikeKeys{ke: ke}}
			},
			failed: resumeFailed}
	case intermediate:
		return &kind{id: id, name: "IKE_INTERMEDIATE", wire: message.ExchangeIntermediate,
			tasks: func() []task {
				ke := &keyExchange{}
				return []task{ke, &additionalKE{ke: ke}}
			},
			failed: func(x *exchange, fault error) { x.sa.connectFailed(x.kind.name, fault) }}
	case authenticate:
		return &kind{id: id, name: "IKE_AUTH", wire: message.ExchangeIKEAuth,
			tasks: func() []task {
				child := &pendingChild{}
				return []task{child, &authRefused{}, &identities{}, &certificates{}, &initialContact{}, &ppkUse{}, &proof{}, &redirectedAuth{child: child}, &redirectAuth{}, &modeConfig{child: child}, &firstChild{child: child}, &mobikeSupport{}, &authLifetime{}, &sessionTicket{}, &ikeUp{child: child}}
			},
			failed: func(x *exchange, fault error) { x.sa.connectFailed(x.kind.name, fault) }}
	case resumedAuth:
		return &kind{id: authenticate, name: "IKE_AUTH", wire: message.ExchangeIKEAuth,
			tasks: func() []task {
				child := &pendingChild{}
				return []task{child, &authRefused{}, &resumedIdentities{}, &initialContact{}, &resumedProof{}, &redirectedAuth{child: child}, &redirectAuth{}, &modeConfig{child: child}, &firstChild{child: child}, &mobikeSupport{}, &authLifetime{}, &sessionTicket{}, &ikeUp{child: child}}
			},
			failed: resumedAuthFailed}
	case createChild:
		return &kind{id: id, name: "CREATE_CHILD_SA", wire: message.ExchangeCreateChildSA,
			tasks: func() []task {
				ke, more, child := &keyExchange{}, &followUps{}, &pendingChild{}
				return []task{ke, more, child, &notWhileRekeying{}, &childNegotiation{ke: ke, more: more, child: child}, &childUp{ke: ke, more: more, child: child}}
			},
			failed: newChildFailed}
	case rekeyChild:
		return &kind{id: id, name: "CREATE_CHILD_SA (rekey of a CHILD SA)", wire: message.ExchangeCreateChildSA,
			tasks: func() []task {
				ke, more, child := &keyExchange{}, &followUps{}, &pendingChild{}
				return []task{ke, more, child, &notWhileRekeying{}, &childReplaced{child: child}, &childNegotiation{ke: ke, more: more, child: child}, &childUp{ke: ke, more: more, child: child}, &childSuccession{child: child}}
			},
			failed: rekeyChildFailed}
	case rekeyIKE:
		return &kind{id: id, name: "CREATE_CHILD_SA (rekey of the IKE SA)", wire: message.ExchangeCreateChildSA,
			tasks: func() []task {
				ke, more, next := &keyExchange{}, &followUps{}, &succession{}
				return []task{ke, more, next, &ikeNegotiation{ke: ke, more: more, next: next}, &rekeyTicket{next: next}, &ikeSuccession{ke: ke, more: more, next: next}}
			},
			failed: rekeyIKEFailed}
	case followUp:
		return &kind{id: id, name: "IKE_FOLLOWUP_KE", wire: message.ExchangeFollowUpKE,
			tasks: func() []task {
				ke := &keyExchange{}
				return []task{ke, &followUpKE{ke: ke}}
			},
			failed: followUpFailed}
	case inform:
		return &kind{id: id, name: "INFORMATIONAL", wire: message.ExchangeInformational,
			tasks: func() []task {
				return []task{&deletion{}, &mobikeInform{}, &redirectedLater{}, &redirectLater{}, &informTicket{}, &pathAnswered{}, &invalidSPI{}}
			}}
	}
	panic("no such exchange")
}

// kindOf finds the row for a request of the peer; nil: not in this state.
func (sa *SA) kindOf(h message.Header, in []message.Payload) *kind {
	switch {
	case sa.base.State == HalfOpen && sa.resumed == nil && sa.init.inter.done < len(sa.base.Suite.Additional):
		if h.Exchange == message.ExchangeIntermediate {
			return row(intermediate)
		}
		return nil
	case sa.base.State == HalfOpen && h.Exchange == message.ExchangeIKEAuth:
		return firstAuth(sa)
	case sa.base.State < Established:
		return nil
	case h.Exchange == message.ExchangeInformational:
		return row(inform)
	case h.Exchange == message.ExchangeFollowUpKE:
		return row(followUp)
	case h.Exchange != message.ExchangeCreateChildSA:
		return nil
	case notify(in, message.NotifyRekeySA) != nil:
		return row(rekeyChild)
	case findTS(in, true) != nil:
		return row(createChild)
	default:
		return row(rekeyIKE)
	}
}
