package keys

import (
	"os"
	"strings"
	"testing"
)

// A key's file is closed once it is written.
func TestWrittenFilesAreClosed(t *testing.T) {
	d := Dir(t.TempDir())
	for _, name := range []string{"a", "b", "c"} {
		if err := d.add(&Key{name, &private().PublicKey, private()}); err != nil {
			t.Fatal(err)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, string(d)) {
			t.Errorf("%s is open", to)
		}
	}
}
