package gateway

import (
	"culvert/config"
	"culvert/internal/gateway/compile"
)

// Check loads and compiles a configuration as a start does, and puts nothing in force. The
// error is config.Faults with all that a start would refuse wherever it is; what it refuses
// on one host alone, such as a policy that takes the host's network, is not looked at.
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
