package control

import (
	"fmt"
	"strings"
	"time"
)

// SPI writes a security parameter index as the manual's menus do: "0x0ABC1234".
func SPI(spi uint32) string { return fmt.Sprintf("0x%08X", spi) }

// Duration writes a time as the manual does, in whole seconds: "1d2h3m4s", "24m", "0s".
// A negative duration is "0s".
func Duration(d time.Duration) string {
	s := int64(d / time.Second)
	if s <= 0 {
		return "0s"
	}
	var b strings.Builder
	for _, unit := range []struct {
		letter  byte
		seconds int64
	}{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}} {
		if n := s / unit.seconds; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, unit.letter)
			s %= unit.seconds
		}
	}
	return b.String()
}

// Lifetime writes add-lifetime, "soft/hard": "24m/30m".
func Lifetime(soft, hard time.Duration) string { return Duration(soft) + "/" + Duration(hard) }

// Time writes a date and time of day: "2024-03-01 13:04:05", in the location of t.
func Time(t time.Time) string { return t.Format(time.DateTime) }
