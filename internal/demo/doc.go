// Package demo is two offices in one process: two whole gateways with in-memory
// edges, a TCP/IP stack behind each as the host in its LAN, and a simulated
// network between them. It needs no privilege and leaves nothing behind.
//
//	demo.go      Run: what happens, in its order
//	site.go      an office: host, device, gateway, attachment to the network
//	lan.go       the host
//	network.go   the network, in real time
//	fetch.go     the file that is fetched, and its hashes
//	payload.go   what the file holds
//	audit.go     what the network may carry
//	story.go     what the user reads
package demo
