package gateway

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"culvert/config"
)

// The guard alone is refused with what is wrong with the configuration: nothing is set up.
func TestGuardAloneRefuses(t *testing.T) {
	dir := t.TempDir()
	faulty, off := filepath.Join(dir, "faulty.toml"), filepath.Join(dir, "off.toml")
	writeFile(t, faulty, "[gateway]\nmtu = 7\n")
	writeFile(t, off, "[gateway]\nguard = false\n")
	for path, want := range map[string]string{
		filepath.Join(dir, "none.toml"): "none.toml", faulty: "gateway.mtu", off: "guard = false in [gateway]: remove the line",
	} {
		flows, _, err := GuardOn(path)
		if err == nil || !strings.Contains(err.Error(), want) || flows != 0 || errors.As(err, new(config.Faults)) != (path != off) {
			t.Errorf("%s: %d flows, %v", path, flows, err)
		}
	}
}
