//go:build !linux

package underlay

import "net/netip"

// LinkMTU is not known on this system.
func LinkMTU(_, _ netip.Addr, _ uint32) int { return 0 }

// Strays is not known on this system.
func Strays(_, _ netip.Addr, _ uint32) bool { return false }
