// Package auth is how peers prove who they are: the AUTH payload of IKEv2 and
// the choice of the identity that a peer's ID stands for. Both versions of IKE
// use what is common.
package auth
