package gateway

import (
	"culvert/config"
	"culvert/internal/gateway/compile"
)

// Check loads and compiles a configuration as a start does, without putting it in force. The
// error is config.Faults with what a start would refuse on any host. What depends on the
// host, such as a policy that covers a network of the host, is not checked.
func Check(path string) (*config.Config, []config.Warning, error) {
	c, warnings, err := config.Load(path)
	if err != nil {
		return nil, warnings, err
	}
	r, err := compile.Compile(c, [2]uint16{c.Gateway.Port, c.Gateway.NATTPort}, nil)
	if err != nil {
		return nil, warnings, err
	}
	return c, append(warnings, r.Warnings...), nil
}
