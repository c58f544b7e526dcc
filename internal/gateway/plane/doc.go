// Package plane joins the endpoint of IKE with the databases and the data path. It has no
// goroutine, no socket and no clock. The caller passes the time, so tests connect two
// planes on virtual time.
//
//	plane.go    inputs, outputs, and going over to a configuration
//	inbox.go    what the data path's workers and the services leave for the endpoint
//	made.go     policies and addresses that were made at run time, and the plan of the host
//	follow.go   what waits until the host has the routes that it needs
//	clients.go  policies that serve several clients with the same addresses
package plane
