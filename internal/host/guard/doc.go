// Package guard keeps plaintext that a policy protects or discards off the wire
// where it never meets the TUN device: what arrives in clear from elsewhere, and
// what would leave by another interface because somebody changed the host's
// rules. It stands while tunnels are down, and after a gateway was killed: only
// a clean end, or guard = false, takes it away (RFC 4301 §5.1, §5.2: the SPD
// decides about all traffic that crosses the boundary).
package guard
