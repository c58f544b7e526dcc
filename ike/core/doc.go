// Package core is what both versions of IKE stand on: the endpoint's inputs and
// outputs, its configuration, timers, retransmission, proposal matching and
// NAT detection. It knows no clock, no socket, no goroutine and no randomness
// but what it is handed.
package core
