// Package v1 is IKEv1 (RFC 2407, 2408, 2409): phases, keys, message IDs and IVs. An SA is the
// ikesa.Protocol of an IKE SA, which has everything that is the same in every version.
package v1
