// Package message has the codecs of IKE messages: bytes to values and back,
// and the grammar of the exchanges. It decides nothing: the packages
// that use it decide what a message means and how to answer it.
//
// A message is read in this order: ParseHeader (which version, which SA), Parse
// (the cleartext chain of payloads, an SK payload last), CheckOuter, then,
// once an SK payload is opened, ParsePayloads of its contents and CheckGrammar.
//
// Whatever was parsed may alias the bytes it was parsed from: who keeps a
// payload for longer than the buffer copies it. AppendBody, Append and
// AppendPayloads only read. What does not fit its length field on the wire is
// cut to what does, so that the chain stays whole; callers keep within bounds.
//
// The files payload_*.go are the payloads of IKEv2, one each.
package message
