// Package spd is the security policy database (RFC 4301 §4.4.1): ordered
// policies, the first that matches a packet decides. A lookup takes no lock and
// does not allocate. Policies of the table are replaced as a whole; those made at
// run time come and go one by one (Put, Drop).
package spd
