package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/internal/operate/control"
)

func TestSAAddAndDelete(t *testing.T) {
	g := sample()
	serve(t, g)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("0x0102\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := strings.Fields("sa add --policy 3 --spi-in 0x1001 --spi-out 4098 --enc-algorithm aes-256-gcm --enc-key-in @" + file +
		" --enc-key-out 0a0b --ah-spi-in 0x2001 --ah-spi-out 0x2002 --ah-algorithm sha1 --ah-key-in 01 --ah-key-out 02 --udp --esn --lifetime 1d2h --lifebytes 9")
	code, out, stderr := call(args...)
	if code != exitOK || out != "added\n" || stderr != "warning: mind the key\n" {
		t.Fatalf("%d, %q, %q", code, out, stderr)
	}
	want := control.ManualSA{Policy: 3, UDP: true, ESN: true, ReplayWindow: 128, Lifetime: 26 * time.Hour, Lifebytes: 9,
		ESP: &control.ManualKeys{SPIIn: 0x1001, SPIOut: 4098, EncAlgorithm: "aes-256-gcm", EncKeyIn: "0x0102", EncKeyOut: "0a0b"},
		AH:  &control.ManualKeys{SPIIn: 0x2001, SPIOut: 0x2002, AuthAlgorithm: "sha1", AuthKeyIn: "01", AuthKeyOut: "02"}}
	if !reflect.DeepEqual(g.added, want) {
		t.Errorf("asked for %+v", g.added)
	}
	for line, want := range map[string]string{
		"sa add --policy 1":                                  "write the SPIs of the SA",
		"sa add --spi-in 1":                                  "--policy",
		"sa add --policy 1 --spi-in many":                    `"many" is not an SPI`,
		"sa add --policy 1 --spi-in 256 --enc-key-in @/none": "/none",
		"sa add --policy 1 --spi-in 256 --lifetime 1.5h":     `"1.5h" is not a duration`,
		"sa add --policy 1 --spi-in 256 --lifetime=-1h":      `"-1h" is not a duration`,
		"sa delete":   "<SPI>",
		"sa delete x": `"x" is not an SPI`,
	} {
		if code, _, stderr := call(strings.Fields(line)...); code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
	if code, out, _ := call("sa", "delete", "0x1001"); code != exitOK || out != "deleted\n" || g.deleted != 0x1001 {
		t.Errorf("delete: %d, %q, %#x", code, out, g.deleted)
	}
}
