// Package nlwatch waits for what the Linux kernel reports of changes that others
// make: messages of netlink multicast groups. Who listens compares what there is with
// what there should be, so that it does not matter how many messages there were,
// and messages that were lost (ENOBUFS) are one more reason to compare.
package nlwatch
