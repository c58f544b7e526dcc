// Package gateway is where both planes meet: it feeds the endpoint with what sockets,
// timers and the data path bring, does what the endpoint wants done, and answers
// the control socket.
//
// Three packages below it are parts of it: compile is what a configuration means, as a pure
// function; plane is the endpoint with the databases and the data path, without goroutine and
// clock; view is what people see of a running gateway, read-only.
//
// Start and reload:
//
//	gateway.go     Run: start, stop
//	loop.go        the one goroutine that owns a plane
//	change.go      the transaction by which a configuration is put in force
//	check.go       loading and compiling alone, for people
//	reload.go      reading the configuration again
//	replay.go      playing a recording
//	recording.go   making one
//	lockout.go     policies that would take this host's own networks away from it
//
// Services:
//
//	service.go     what a service is, and the table of them
//	workers.go     what is slow and needs nothing but the CPU
//	names.go       DNS names, and local addresses towards peers
//	fetch.go       CRLs and OCSP responses
//	leases.go      addresses of pools
//	tickets.go     the keys of session tickets
//	state.go       the store of what outlives the process
//
// The host:
//
//	edges.go       sockets, device and host, as values
//	guard.go       the plan of the guard
//	alone.go       the guard without a gateway
//	restore.go     putting right what others changed on the host
//
// The control socket and the log:
//
//	backend.go     its commands; those that change nothing read a view.View
//	commands.go    those that change something
//	manual.go      SAs that are added by hand
//	log.go         the log
package gateway
