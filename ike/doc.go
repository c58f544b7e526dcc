// Package ike is the IKE endpoint: a pure function of its inputs. It finds the
// SA that a message is for, takes in strangers within bounds, and keeps up what
// the configuration wants up. What an IKE SA is, is in ike/sa; how it speaks to its peer,
// in ike/v2; version.go has what the endpoint knows of a version.
//
//	datagram ─► header ─► row of its version ─► SPI known? ─► sa.SA ─► its Protocol, v2.SA
//	                                               └─ the first of an SA ─► bounds, cookie ─► accept, v2.Accept
package ike
