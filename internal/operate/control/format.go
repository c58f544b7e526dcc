package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SPI writes a security parameter index as the manual's menus do: "0x0ABC1234".
func SPI(spi uint32) string { return fmt.Sprintf("0x%08X", spi) }

// ParseSPI reads an SPI as people write it: decimal, or hexadecimal with 0x.
func ParseSPI(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not an SPI: write a number such as 4096 or 0x1000", text)
	}
	return uint32(n), nil
}

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

// Seconds is a duration in whole seconds: as the manual writes it for people, a number
// in JSON.
type Seconds int64

// InSeconds is d without fractions of a second; what is negative is 0.
func InSeconds(d time.Duration) Seconds { return Seconds(max(0, d/time.Second)) }

// String is Duration.
func (s Seconds) String() string { return Duration(time.Duration(s) * time.Second) }

// Until is the time until something; 0 is never, and prints as nothing.
type Until Seconds

// String is Duration, or empty.
func (u Until) String() string {
	if u == 0 {
		return ""
	}
	return Seconds(u).String()
}

// DPDInterval is dpd-interval; 0 is "disable-dpd".
type DPDInterval Seconds

// String is Duration, or the manual's word for none.
func (d DPDInterval) String() string {
	if d == 0 {
		return "disable-dpd"
	}
	return Seconds(d).String()
}

// Lifetime is add-lifetime, which the manual writes as "24m/30m".
type Lifetime struct {
	Soft Seconds `json:"soft"`
	Hard Seconds `json:"hard"`
}

// String is "soft/hard".
func (l Lifetime) String() string { return l.Soft.String() + "/" + l.Hard.String() }

// Time writes a date and time of day: "2024-03-01 13:04:05", in the location of t.
func Time(t time.Time) string { return t.Format(time.DateTime) }
