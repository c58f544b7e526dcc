package main

import (
	"errors"
	"net"
	"os"
)

// tellSystemd sends a state, such as "READY=1", to the service manager that started
// this process (sd_notify(3)): one datagram to the socket in $NOTIFY_SOCKET, of which a
// leading @ names an abstract one. Without the variable nobody waits for it.
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
