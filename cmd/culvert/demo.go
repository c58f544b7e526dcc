package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"culvert/internal/demo"
)

type demoCmd struct {
	Size  int64 `default:"64" placeholder:"MIB" help:"Amount of data to send through the tunnel, in MiB (default ${default})."`
	Plain bool  `help:"Print plain lines on a terminal too."`
}

func (demoCmd) Help() string {
	return `Runs two gateways, a host behind each, and the network between them in this process. It shows the key exchange, sends data through the tunnel, and compares it at the other end. It checks that every datagram on the network is IKE or ESP and contains no plaintext. Nothing on this computer is changed, and root is not needed.

Example:

    culvert demo
    culvert demo --size 256`
}

func (c *demoCmd) Run(s *session) error {
	ctx, stop := signal.NotifyContext(s.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return demo.Run(ctx, demo.Options{Out: s.stdout, Size: c.Size << 20, Width: s.width, Plain: c.Plain})
}
