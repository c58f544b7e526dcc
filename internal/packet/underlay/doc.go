// Package underlay carries datagrams below the tunnel: UDP 500 and 4500, with
// the non-ESP marker told apart here, so that everybody above sees IKE, ESP or
// a keepalive and never the marker.
package underlay
