package hardware

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/cpuid/v2"

	"culvert/crypto/suite"
)

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		arch string
		has  []cpuid.FeatureID
		want string // what is accelerated, in the tables' order
	}{
		{"amd64", nil, ""},
		{"amd64", []cpuid.FeatureID{cpuid.AESNI}, "aes-cbc aes-ctr aes-ccm"},
		{"amd64", []cpuid.FeatureID{cpuid.AESNI, cpuid.CLMUL, cpuid.SHA}, "aes-cbc aes-ctr aes-gcm aes-ccm aes-gmac sha1 sha256"},
		{"amd64", []cpuid.FeatureID{cpuid.AESARM, cpuid.SHA512}, ""},
		{"arm64", []cpuid.FeatureID{cpuid.AESARM, cpuid.PMULL, cpuid.SHA1, cpuid.SHA2}, "aes-cbc aes-ctr aes-gcm aes-ccm aes-gmac sha1 sha256"},
		{"arm64", []cpuid.FeatureID{cpuid.SHA512}, "sha384 sha512"},
		{"riscv64", []cpuid.FeatureID{cpuid.AESNI}, ""},
	} {
		f := features(c.arch, func(ids ...cpuid.FeatureID) bool { return slices.Contains(c.has, ids[0]) })
		var got []string
		for _, e := range suite.Encrs {
			if f[e.SAName] && !slices.Contains(got, e.SAName) {
				got = append(got, e.SAName)
			}
		}
		for _, a := range suite.Integs {
			if f[a.Name] {
				got = append(got, a.Name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s with %v: %v, want %s", c.arch, c.has, got, c.want)
		}
	}
}

// Every transform of the tables can be measured.
func TestMeasure(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		var a *suite.Integ
		if !e.AEAD() {
			a = suite.IntegByName("sha256")
		}
		if rate, err := Measure(e, a, time.Microsecond); err != nil || rate <= 0 {
			t.Errorf("%s: %v, %v", e.Name, rate, err)
		}
	}
	if _, err := Measure(suite.EncrByName("aes-128-cbc"), nil, time.Microsecond); err == nil {
		t.Error("a cipher without integrity was measured")
	}
	if !strings.Contains(CPU(), "AES") {
		t.Error(CPU())
	}
}
