package lab

import "fmt"

// ManualServer is the manual's server of road warriors with RSA authentication. ca and certificate are files; profile and
// proposal are lines beside what the manual writes.
func ManualServer(ca, certificate, profile, proposal string) string {
	return fmt.Sprintf(`
[[certificate]]
name = "ca"
file = %q
[[certificate]]
name = "server1"
file = %q
[[profile]]
name = "ike2"
%s
[[proposal]]
name = "ike2"
pfs-group = "none"
%s
[[pool]]
name = "ike2-pool"
ranges = "192.168.77.2-192.168.77.254"
[[mode-config]]
name = "ike2-conf"
address-pool = "ike2-pool"
address-prefix-length = 32
[[policy-group]]
name = "ike2-policies"
[[policy]]
dst-address = "192.168.77.0/24"
group = "ike2-policies"
proposal = "ike2"
src-address = "0.0.0.0/0"
template = true
[[peer]]
name = "ike2"
exchange-mode = "ike2"
passive = true
profile = "ike2"
[[identity]]
peer = "ike2"
auth-method = "digital-signature"
certificate = "server1"
generate-policy = "port-strict"
mode-config = "ike2-conf"
policy-template-group = "ike2-policies"
`, ca, certificate, profile, proposal)
}
