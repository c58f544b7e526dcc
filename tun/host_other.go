//go:build !linux

package tun

import "runtime"

// NewHost on this system changes nothing by itself: Apply of a plan that needs
// addresses or routes returns a *ManualError with the commands to run by hand.
func NewHost(o Options) (Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return manualHost{device: o.Device}, nil
}

type manualHost struct{ device string }

func (h manualHost) Apply(p Plan) error {
	if c := manualCommands(runtime.GOOS, h.device, p); len(c) > 0 {
		return &ManualError{System: runtime.GOOS, Commands: c}
	}
	return nil
}

func (manualHost) Close() error { return nil }
