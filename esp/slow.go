package esp

import (
	"runtime"

	"golang.org/x/sys/cpu"

	"culvert/crypto/suite"
)

// Slow reports whether a packet takes so long to seal or to open that packets of other SAs should not wait for it:
// every algorithm but GCM where the CPU has instructions for it, and ChaCha20-Poly1305, which seal a packet of 1420
// bytes in about half a microsecond. AES-256-CBC with SHA-256 takes eight times as long, 3DES more than a hundred times.
func (t *Transform) Slow() bool { return t.slow }

// slow is Slow of an algorithm that protects integrity itself.
func slow(e *suite.Encr) bool {
	switch e.SAName {
	case "aes-gcm", "aes-gmac":
		return !gcmInstructions
	case "chacha20-poly1305":
		return false
	}
	return true
}

// gcmInstructions says whether the CPU has what the standard library's GCM is fast with.
var gcmInstructions = runtime.GOARCH == "amd64" && cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ ||
	runtime.GOARCH == "arm64" && cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
	runtime.GOOS == "darwin" && runtime.GOARCH == "arm64"
