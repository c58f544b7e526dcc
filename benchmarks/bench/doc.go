// Bench measures Culvert beside other tunnels on this machine: `make bench`.
//
// Each peer gets two network namespaces joined by a veth pair, with a gateway in
// each and the traffic generator beside it. In every round all peers measure a cell
// in turns before the next cell begins, so that what else the machine does meets
// them alike. What counts are ratios of the same round; the figures are medians of
// all rounds. docs/performance.md says what is learned from it.
//
// In the order in which a reader wants them: cells_linux.go has what is measured,
// peers_linux.go and the files beside it how each peer is started, run_linux.go the
// rounds, traffic_linux.go, udp_linux.go and ping_linux.go the generator, net_linux.go
// namespaces and processes; search.go finds the highest rate, figures.go computes
// medians and ratios, table_linux.go, svg_linux.go and report_linux.go print them.
package main
