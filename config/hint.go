package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// didYouMean is " (did you mean "x"?)" for the known name that is most like
// the given one, or nothing. Most like is the same name otherwise written, then the
// one that goes on where the other ends (sha2, sha256), then the one of fewest changes.
func didYouMean(given string, known []string) string {
	flat := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "", ".", "").Replace(strings.ToLower(s))
	}
	was := flat(given)
	best, distance := "", min(len(given)/3+1, 3)
	more := len(was) + 1 // letters that one of the two has behind the other
	for _, k := range known {
		name := flat(k)
		if name == was {
			best = k
			break
		}
		if len(was) >= 3 && strings.HasPrefix(name, was) || 2*len(name) >= max(6, len(was)) && strings.HasPrefix(was, name) {
			if n := max(len(name)-len(was), len(was)-len(name)); n < more {
				best, more, distance = k, n, 0
			}
		} else if d := editDistance(was, name, distance); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// kindOf is didYouMean for an ID that others write without its kind.
func kindOf(id, kind string, kinds []string) string {
	id = strings.TrimPrefix(id, "@")
	switch _, err := netip.ParseAddr(id); {
	case err == nil:
		return fmt.Sprintf(" (did you mean %q?)", "address:"+id)
	case strings.Contains(id, ":"):
	case strings.Contains(id, "@"):
		return fmt.Sprintf(" (did you mean %q?)", "user-fqdn:"+id)
	case strings.Contains(id, ".") && isDNSName(id):
		return fmt.Sprintf(" (did you mean %q?)", "fqdn:"+id)
	}
	return didYouMean(kind, kinds)
}

func trimmed(list []string) []string {
	for i, s := range list {
		list[i] = strings.TrimSpace(s)
	}
	return list
}

// editDistance counts the letters to change, insert, remove or swap with their
// neighbour; limit where there are that many or more.
func editDistance(a, b string, limit int) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(limit, last[len(b)])
}

// accepted is a list of names for people.
func accepted(names []string) string { return strings.Join(names, ", ") }

// without is names less those that this build refuses for the key.
func without(names []string, table, key string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return valueNotYet(table, key, n) })
}
