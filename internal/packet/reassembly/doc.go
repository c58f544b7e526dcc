// Package reassembly puts IP fragments together again. Where a policy or an SA
// asks for ports, a fragment that is not the first cannot be judged: it is held
// until the packet is whole (RFC 4301 §7.2).
//
// What strangers can make it keep is bounded: datagrams, buffers, both for each
// sender, and the time. Its buffers are made once, up to Buffers of them, and used
// again. A Table belongs to one worker and has no clock.
//
// Fragments that overlap give the whole datagram up, and what still comes of it
// (RFC 5722, RFC 8200 §4.5), in IPv4 as well. A fragment that comes twice, byte
// for byte in the same place, is dropped alone.
package reassembly
