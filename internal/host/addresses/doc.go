// Package addresses says which addresses and networks this host has, and tells when they
// change: those that peers can reach it at (Reachable), those that no peer may claim (Own),
// and when what leads to a peer may be another address (Routes).
package addresses
