package config_test

import (
	"fmt"

	"culvert/config"
)

// The manual's site-to-site example with IKEv2.
const siteToSite = `
[[profile]]
name = "ike2-site2"
dh-group = ["modp2048"]
enc-algorithm = ["aes-128"]

[[proposal]]
name = "ike2-site2"
enc-algorithms = ["aes-128-cbc"]
pfs-group = "modp2048"

[[peer]]
name = "site2"
address = "192.168.80.1/32"
exchange-mode = "ike2"
profile = "ike2-site2"

[[identity]]
peer = "site2"
secret = "thisisnotasecurepsk"

[[policy]]
peer = "site2"
src-address = "10.1.202.0/24"
dst-address = "10.1.101.0/24"
tunnel = true
proposal = "ike2-site2"
`

func ExampleParse() {
	c, _, err := config.Parse("culvert.toml", []byte(siteToSite))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range c.Policies {
		fmt.Println(p.Index, p.SrcAddress, p.DstAddress, p.Protocol, p.SrcPort, p.Level, p.Template, p.ProposalName)
	}
	peer := c.Peers[0]
	fmt.Println(peer.Name, peer.Address, peer.Port, peer.Profile.Encrs[0].Name, peer.Profile.PRFs[0].Name, peer.Profile.Lifetime)
	fmt.Println(peer.Identities[0].Secret)
	// Output:
	// 0 ::/0 ::/0 all any require true default
	// 1 10.1.202.0/24 10.1.101.0/24 all any require false ike2-site2
	// site2 192.168.80.1/32 500 aes-128-cbc sha1 1d
	// (hidden)
}

func ExampleFaults() {
	_, _, err := config.Parse("culvert.toml", []byte(`[[peer]]
name = "site2"
adress = "192.168.80.1"
exchange_mode = "ike2"

[[policy]]
peer = "site3"
src-address = "10.1.202.0/24"
dst-address = "10.1.101.0/33"
tunnel = "yes"
`))
	fmt.Println(err)
	// Output:
	// culvert.toml:3: peer.adress: unknown (did you mean "address"?), accepted: address, childless, comment, disabled, exchange-mode, local-address, name, natt-port, on-demand, passive, port, profile, redirect, redirect-above, send-initial-contact
	// culvert.toml:4: peer.exchange_mode: unknown (did you mean "exchange-mode"?), accepted: address, childless, comment, disabled, exchange-mode, local-address, name, natt-port, on-demand, passive, port, profile, redirect, redirect-above, send-initial-contact
	// culvert.toml:7: policy.peer: there is no [[peer]] named "site3" (did you mean "site2"?)
	// culvert.toml:9: policy.dst-address: "10.1.101.0/33" is not a prefix, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"
	// culvert.toml:10: policy.tunnel: is a string, write true without quotes, accepted: true, false
}

func ExampleDiff() {
	old, _, _ := config.Parse("culvert.toml", []byte(siteToSite))
	next, _, _ := config.Parse("culvert.toml", []byte("[gateway]\nport = 501\nlog-level = \"debug\"\n"+siteToSite+`
[[policy]]
peer = "site2"
src-address = "10.1.202.0/24"
dst-address = "10.1.102.0/24"
tunnel = true
proposal = "ike2-site2"
`))
	d := config.Diff(old, next)
	fmt.Println(d.Gateway, d.Restart, d.PeersChanged, len(d.Kept), len(d.PoliciesAdded), len(d.PoliciesRemoved))
	// Output: [port log-level] [port] [] 2 1 0
}
