// Package v2 is IKEv2 (RFC 7296): the exchanges of one IKE SA as a state
// machine without clock, socket, goroutine or randomness of its own. It is a Protocol of
// package sa, which has what an IKE SA is in any version.
//
// Where to find what:
//
//	sa.go         what an IKE SA asks for, and where its messages go
//	exchange.go   requests and responses: windows, retransmission, stages
//	exchanges.go  the table: which exchange runs which tasks
//	init.go auth.go create.go …   the tasks, one feature a file
//	keyexchange.go pendingchild.go …   what several tasks of one exchange share
//	feature.go    the table: what an IKE SA has from exchange to exchange
//	protect.go keys.go            the SK payload and the keys
//
// States of an IKE SA:
//
//	         IKE_SA_INIT        IKE_AUTH             rekeyed
//	connecting ────────► half-open ────► established ────────► replaced
//	     │                  │                 │ delete             │
//	     ▼                  ▼                 ▼                    ▼
//	    ended             ended            closing ──────────────► ended
package v2
