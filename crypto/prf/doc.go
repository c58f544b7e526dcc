// Package prf runs the pseudo-random functions of IKE and their expansion
// prf+ (RFC 7296 §2.13). Everything here is for the control plane: it
// allocates, and its results belong to the caller, who wipes them.
package prf
