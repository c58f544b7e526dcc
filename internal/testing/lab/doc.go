// Package lab runs gateways against each other on one Linux machine, for tests:
// network namespaces joined by veth pairs, a NAT router, strongSwan daemons with
// userspace ESP (kernel-libipsec, so that no kernel IPsec is needed) and culvert
// processes, each with files of its own, and transfers through the tunnel whose
// content is checked by hash. A guest is a machine with a Linux kernel of its own
// (User Mode Linux), and so with the kernel's IPsec.
//
// It needs root, on Linux. A test begins with Need, which says what is missing,
// and its package runs its tests through Main.
package lab
