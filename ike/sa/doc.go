// Package sa is what an IKE SA is in any version of IKE: its peer and path, who the
// peer has proved to be, its CHILD SAs and how they succeed each other, its lease, and
// how long all of that counts. It decides what a CHILD SA is made for.
//
// A version of IKE implements Protocol. The SA asks it for exchanges and never sees a
// message; the protocol tells the SA what became of them, by the SA's exported
// methods. Whoever keeps the SAs, the endpoint, implements the interfaces of Owner.
//
//	endpoint ──Delete, Rekey, CreateChild──► SA ──MakeChild, Close, Probe──► Protocol
//	endpoint ◄──Established, ChildGone────── SA ◄──Up, Install, Heard, End── Protocol
//
// A file has one feature:
//
//	sa.go         the SA, its states and its end
//	begin.go      how an SA begins
//	identify.go   who each end says that it is
//	final.go      what is left of one that ended
//	protocol.go   what an SA asks of its version of IKE
//	owner.go      what an SA asks of the endpoint
//	child.go      CHILD SAs, from installation to removal
//	request.go    what the peer asks for in a CHILD SA, and what it gets
//	template.go   policies made from templates
//	entitled.go   what a peer may have by a template
//	answer.go     what the peer chose of what we asked for
//	refusal.go    why a CHILD SA is not made
//	explain.go    both sides beside each other, for people
//	pieces.go     messages in fragments
//	path.go       where the peer is; NAT detection and keepalives
//	liveness.go   the question whether a silent peer is there
//	hint.go       the same after signs that it may have lost the SA
//	clients.go    who is who, by what each has proved
//	contest.go    two devices want the same
//	crowd.go      how many IKE SAs one peer may have
//	twins.go      both ends began at once
//	expired.go    CHILD SAs that outlive their IKE SA
//	fallback.go   the peer does not let us replace an SA
//	reauth.go     how long a proof counts
//	modeconfig.go what mode config asks for, gives and keeps
//	guesses.go    how many wrong passwords are looked at
//	lease.go      inner addresses
package sa
