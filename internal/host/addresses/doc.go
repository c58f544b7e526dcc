// Package addresses says which addresses and networks this host has, and tells when they
// change: those that peers can reach it at (Reachable), and those that no peer may claim (Own).
package addresses
