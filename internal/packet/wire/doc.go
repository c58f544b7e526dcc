// Package wire has views on the headers of IP packets: one validity check up
// front, then accessors on the bytes, without copies and without allocation.
package wire
