package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"culvert/internal/demo"
)

type demoCmd struct {
	Size  int64 `default:"64" placeholder:"MIB" help:"How much is fetched through the tunnel, in MiB (default ${default})."`
	Plain bool  `help:"Plain lines on a terminal, too."`
}

func (demoCmd) Help() string {
	return `Runs two gateways, a host behind each and the network between them in this process: it shows the key exchange, sends data through the tunnel and checks it at the other end. Every datagram on that network is checked to be IKE or ESP and to hold nothing readable. Nothing of the machine is touched and no privilege is needed.

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
