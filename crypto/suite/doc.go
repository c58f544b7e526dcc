// Package suite is the table of algorithms: what the manual calls them in a
// profile and in a proposal, what IANA numbers they have, and how long their
// keys, vectors and check values are. It implements none of them; the other
// folders of crypto/ do, one algorithm per file.
//
// An algorithm that exists here is one that the build can run: nothing is ever
// offered to a peer that is not a row.
package suite
