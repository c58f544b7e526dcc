// Package ah is the room of the Authentication Header (RFC 4302): a transform
// with the shape of esp.Transform whose ICV also covers the immutable fields
// of the outer IP header, for sad to own and the data path to call.
//
// It has no transform: the configuration refuses ipsec-protocols=ah, so no
// proposal with AH is ever sent or accepted.
package ah
