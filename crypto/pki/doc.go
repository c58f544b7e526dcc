// Package pki reads certificates and keys from files, compares distinguished
// names, and finds and validates paths from a certificate to one that is trusted
// (RFC 5280 §6). It trusts nobody: who is trusted, and for what, is decided in ike/auth.
package pki
