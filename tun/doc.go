// Package tun is where plain packets come from and go to: the TUN device of
// each system, the host's routes, rules and addresses around it, and in-memory
// twins of both.
package tun
