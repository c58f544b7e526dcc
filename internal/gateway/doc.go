// Package gateway is where both planes meet: it compiles the configuration into
// policies and an IKE configuration, feeds the endpoint with what sockets,
// timers and the data path bring, does what the endpoint wants done, and answers
// the control socket.
//
//	compile/     configuration → IKE configuration, policies, routes
//	plane.go     endpoint + databases + data path, without goroutine and clock
//	inbox.go     what the data path's workers tell the endpoint
//	gateway.go   Run: start, stop
//	loop.go      the one goroutine that owns a plane
//	reload.go    going over to a changed configuration
//	restore.go   putting right what others changed on the host
//	lockout.go   policies that would take this host's own networks away from it
//	backend.go   the rows and commands of the control socket
package gateway
