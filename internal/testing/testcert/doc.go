// Package testcert makes certificates for tests: authorities, intermediates,
// leaves of every kind of key, CRLs. It panics where something cannot be made.
package testcert
