package hardware

import (
	"fmt"
	"runtime"
	"time"

	"github.com/klauspost/cpuid/v2"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/esp"
)

// cpuHas says for each algorithm, by the name that its SAs are printed with,
// whether it runs on instructions that the CPU has for it. What is not in the
// table has none anywhere, or none that the implementation uses: SHA-512 on
// x86 runs on vector instructions, which are no hash engine.
type cpuHas map[string]bool

func features(arch string, has func(...cpuid.FeatureID) bool) cpuHas {
	aes, poly, sha1, sha256, sha512 := false, false, false, false, false
	switch arch {
	case "amd64", "386":
		aes, poly = has(cpuid.AESNI), has(cpuid.CLMUL)
		sha1, sha256 = has(cpuid.SHA), has(cpuid.SHA)
	case "arm64":
		aes, poly = has(cpuid.AESARM), has(cpuid.PMULL)
		sha1, sha256, sha512 = has(cpuid.SHA1), has(cpuid.SHA2), has(cpuid.SHA512)
	}
	return cpuHas{
		"aes-cbc": aes, "aes-ctr": aes, "aes-ccm": aes, "aes-gcm": aes && poly, "aes-gmac": aes && poly,
		"sha1": sha1, "sha256": sha256, "sha384": sha512, "sha512": sha512,
	}
}

var here = features(runtime.GOARCH, cpuid.CPU.Supports)

// Accelerated reports whether the CPU has instructions for the cipher of an SA,
// the manual's hw-aead, and whether it has them for its hash. Nil has none.
func Accelerated(encr *suite.Encr, integ *suite.Integ) (cipher, hash bool) {
	return encr != nil && here[encr.SAName], integ != nil && here[integ.Name]
}

// CPU is the processor's name and the instructions that matter here.
func CPU() string {
	name := cpuid.CPU.BrandName
	if name == "" {
		name = runtime.GOARCH
	}
	word := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprintf("%s: AES %s, GHASH %s, SHA-1 %s, SHA-256 %s, SHA-512 %s", name,
		word(here["aes-cbc"]), word(here["aes-gcm"]), word(here["sha1"]), word(here["sha256"]), word(here["sha512"]))
}

// Payload is the size of the packets that Measure seals, in bytes.
const Payload = 1420

// Measure seals packets of Payload bytes for about d on one core and returns
// the payload's bits per second.
func Measure(encr *suite.Encr, integ *suite.Integ, d time.Duration) (float64, error) {
	p := esp.Params{SPI: 256, Encr: encr, EncKey: key(encr.MaterialLen()), Integ: integ}
	if integ != nil {
		p.IntegKey = key(integ.KeyLen)
	}
	t, err := esp.New(p)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64+Payload+128)
	packets := 0
	start := time.Now()
	for {
		for range 16 {
			packets++
			t.Seal(buf, 64, Payload, uint64(packets), 4)
		}
		// At least one run is measured, however short d is and however late this goroutine
		// is scheduled.
		if took := time.Since(start); took >= d && took > 0 {
			return float64(packets) * Payload * 8 / took.Seconds(), nil
		}
	}
}

// key is one that no cipher refuses: its bytes are all different.
func key(n int) secret.Bytes {
	k := make(secret.Bytes, n)
	for i := range k {
		k[i] = byte(i*7 + 1)
	}
	return k
}
