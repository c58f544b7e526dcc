// Package sad is the security association database (RFC 4301 §4.4.2): the
// CHILD SAs with their keys, lifetimes, counters and replay windows, found by
// SPI on the way in and by policy on the way out.
//
// Look-ups are for any goroutine and take no lock; what they return may be used
// within the batch of a Worker. Changes are for any goroutine too and wait for
// each other on a mutex. No change copies the table.
package sad
