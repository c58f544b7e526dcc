// Package interop holds the interoperability tests with strongSwan, one per cell
// of a matrix, and writes what they found as a table.
package interop
