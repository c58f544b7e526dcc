// Figures counts what docs/architecture.md says of the size of the code: methods
// and fields of the largest types, files that a feature touches, arrows between
// packages, and returns on the way of a packet and of a datagram.
//
//	go run ./internal/testing/figures [FOLDER]
//
// FOLDER is a checkout of the repository; the current one if it is left out. Tests are not counted.
package main
