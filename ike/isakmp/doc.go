// Package isakmp has the codecs of IKEv1: ISAKMP messages (RFC 2408) with the
// payloads and attributes of RFC 2407, 2409, 3706 and 3947, of mode config, XAuth
// and Cisco Unity. It decides nothing and has no cryptography: ike/v1 says
// which payloads an exchange may have, what they mean and how to answer them.
//
// The header is that of ike/message, and so are the types of payload numbers,
// of exchange types and of errors: IKEv2 gave no number a second time.
//
// A message is read in this order: message.ParseHeader (which version, which SA),
// Parse (the chain in clear, or what is sealed), and, once that is decrypted,
// ParsePayloads. IKEv1 authenticates messages by hashes of bytes as they were
// received, never of bytes encoded again: Chain.After, Chain.Body and SA.Body have them.
//
// Parse and ParsePayloads copy their input: what they return stays valid
// when the buffer is used again. The payloads of one message share
// one copy of it: clone a part that is to be kept for long.
//
// Peers break small rules. What does no harm is read and reported in Odd: bytes
// after the last payload (padding among them) and reserved bytes that are not zero.
// What does not fit its length field on the wire is cut to what does, so that the
// chain stays whole; callers keep within bounds.
package isakmp
