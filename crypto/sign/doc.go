// Package sign is the digital signatures of IKE: the table of schemes with
// their ASN.1 AlgorithmIdentifiers (RFC 7427), and how each signs and verifies.
// A scheme is a row; nothing is announced to a peer or accepted from one that
// is not.
package sign
