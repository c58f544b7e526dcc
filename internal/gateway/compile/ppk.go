package compile

import (
	"culvert/config"
	"culvert/ike/core"
)

// corePPKs gives identities their postquantum preshared keys.
func corePPKs(ids []*core.Identity, from []*config.Identity) {
	for n, i := range from {
		if i.PPKID != "" {
			ids[n].PPK = &core.PPK{ID: i.PPKID, Secret: i.PPKSecret, Required: i.PPKRequired}
		}
	}
}
