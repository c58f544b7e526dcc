// Package lease gives addresses of pools to owners and remembers who had which:
// an owner that comes back gets its address again, also after a restart, and
// nobody gets somebody else's while another address is left. It has no clock, no
// goroutine and no lock: one caller at a time.
package lease
