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
	return manualHost{system: runtime.GOOS, device: o.Device}, nil
}
