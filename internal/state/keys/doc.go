// Package keys keeps the RSA keys that `culvert key` makes and imports: one PEM file for each
// name, in the folder keys of the state directory.
//
// They are not in the database of internal/state/store. A running gateway has that one locked, so that
// the commands could not use it; and where it is damaged, the gateway begins with an empty one,
// which is right for leases and wrong for a key that a peer was told of.
//
//	keys.go    the folder: make, import, list, read, remove
//	format.go  what a file to import may be: PEM, and the public key of RFC 3110
package keys
