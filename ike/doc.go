// Package ike is the IKE endpoint: a pure function of its inputs. It finds the
// SA that a message is for, takes in strangers within bounds, and keeps up what
// the configuration wants up. What an IKE SA is, is in ike/sa; how it speaks to its peer,
// in ike/v2.
//
//	datagram ─► header ─► version ─► SPI known? ─► sa.SA ─► its Protocol, v2.SA
//	                                     └─ IKE_SA_INIT ─► bounds, cookie ─► v2.Accept
package ike
