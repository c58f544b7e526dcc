// Package datapath is the two straight lines that a packet takes through the
// gateway. Each is one file that reads in the order of its stations:
//
//	out.go   tun.Read → wire.ParseFlow → spd.Lookup → sad.Outbound → esp.Seal → underlay.Send
//	in.go    underlay.Recv → demux → sad.Inbound → esp.Open → wire.ParseFlow → selector check → tun.Write
//
// Packets come in batches, are sealed and opened in place, and on the way no
// lock is taken and nothing is allocated. A packet that does not get through
// counts in exactly one counter, its Reason.
package datapath
