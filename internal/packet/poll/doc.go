// Package poll waits until one of several files can be read, in the thread that asks (Linux).
//
// The runtime's poller waits in whatever thread is free. What wakes it has to find the goroutine,
// a processor for it and often another thread, and each of these is a wake-up of its own. A line of the data
// path is woken for each packet of an idle tunnel, so that this is most of what a round trip takes.
package poll
