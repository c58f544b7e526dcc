// Package selector is the leaf that everybody may know: what traffic is meant.
//
// A TS is one traffic selector as IKEv2 has it on the wire (RFC 7296 §3.13.1):
// an address range, an IP protocol and a port range. A Pair is a TS for each
// end, seen from this gateway: Local is the source of what leaves and the
// destination of what arrives.
package selector
