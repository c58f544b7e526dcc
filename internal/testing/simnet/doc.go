// Package simnet is a network for tests on virtual time: it loses, delays,
// reorders and duplicates datagrams and translates addresses, all decided by a
// seed. The same calls in the same order give the same results, to the
// nanosecond.
//
// A datagram goes this way: Network.Send (out through the NAT of its sender,
// over the link, in through the NAT of its receiver) says when and where it
// arrives; Clock.At makes an event of each arrival; Clock.Run runs them in
// order. Nothing here knows the real clock, and nothing is safe for use by
// several goroutines.
package simnet
