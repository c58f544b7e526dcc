// Package resolver asks the DNS for the gateway itself: which servers this host has, and
// look-ups from sockets whose packets no policy takes into a tunnel.
package resolver
