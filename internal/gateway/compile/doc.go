// Package compile turns a configuration into what the gateway puts in force: the IKE
// configuration, the policies of the SPD and the plan of the host. It is a pure function of
// the configuration, the ports of the sockets and the previous result: it opens no socket
// and reads no file, so that a recording is replayed with the same results, and `culvert check`
// finds what a start would refuse.
//
//	compile.go     the result, peers, policies and routes
//	modeconfig.go  mode-config, pools and policy templates
//	certs.go       certificates and identities
//	ppk.go         postquantum preshared keys
//	redirects.go   where clients are redirected to
//	mtu.go         the MTU of the device, where the configuration leaves it open
//	faults.go      what is wrong in a configuration that loads
//	where.go       the file and line of what the endpoint reports on
package compile
