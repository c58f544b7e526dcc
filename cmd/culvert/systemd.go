package main

import (
	"errors"
	"net"
	"os"
)

// tellSystemd sends a state, such as "READY=1", to the service manager that started
// this process (sd_notify(3)): one datagram to the socket in $NOTIFY_SOCKET. A leading @
// means an abstract socket. Without the variable it does nothing.
func tellSystemd(state string) (err error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, err = c.Write([]byte(state))
	return err
}
