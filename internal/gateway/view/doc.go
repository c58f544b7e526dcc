// Package view is what people see of a running gateway: the rows of the print commands and the
// answers of the explain commands. It reads and changes nothing. A View is what it may read;
// only Attempts has memory of its own, of events that the gateway hands it.
//
//	view.go        what may be read
//	rows.go        the print commands
//	statistics.go  the counters
//	packet.go      explain packet: what the data path would do with a packet
//	host.go        what the host does with it before and after that
//	peer.go        explain peer: what became of the last attempts with a peer
//	attempts.go    the last events of each peer
//	counts.go      how many SAs a command concerns
package view
