package lab

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// withOptions is the word of a transfer whose packets have options in front.
const withOptions = "options"

// Options that routers change and options that they do not, as AH has to tell them
// apart (RFC 4302 appendix A).
var (
	optionsIPv4 = string([]byte{
		7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, // record route: changes
		148, 4, 0, 0, // router alert: stays
		68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, // timestamps: change
		130, 11, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, // security: stays
		1, 0,
	})
	optionsIPv6 = string([]byte{
		0, 1, // next header, 16 bytes
		5, 2, 0, 0, // router alert: stays
		0x3e, 8, 1, 2, 3, 4, 5, 6, 7, 8, // for experiments, may change
	})
)

// setOptions gives a socket's packets options.
func setOptions(network, _ string, c syscall.RawConn) error {
	var failed error
	if err := c.Control(func(fd uintptr) {
		if network == "tcp6" {
			failed = unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, optionsIPv6)
		} else {
			failed = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, optionsIPv4)
		}
	}); err != nil {
		return err
	}
	return failed
}
