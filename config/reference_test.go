package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// reference is the tables of docs/configuration.md: the rows of each.
func reference(t *testing.T) map[string][][]string {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	found, table := map[string][][]string{}, ""
	heading := regexp.MustCompile("^## `\\[+([a-z-]+)\\]+`$")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			table = m[1]
			found[table] = nil
		}
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) == 3 {
			found[table] = append(found[table], []string{strings.TrimPrefix(cells[0], "| "), cells[1], strings.TrimSuffix(cells[2], "|")})
		}
	}
	return found
}

var code = regexp.MustCompile("`([^`]+)`")

// The reference has every key that is accepted, and no other; and where it gives a
// default, to write that changes nothing.
func TestReference(t *testing.T) {
	found := reference(t)
	for _, table := range tables {
		rows, there := found[table.name]
		if !there {
			t.Errorf("%s is missing", table.header())
		}
		var keys []string
		for _, row := range rows {
			for _, m := range code.FindAllStringSubmatch(row[0], -1) {
				keys = append(keys, m[1])
				if !slices.Contains(table.keys, m[1]) || keyNotYet(table.name, m[1]) {
					t.Errorf("%s has no %s", table.header(), m[1])
				}
				if d := code.FindStringSubmatch(row[1]); d != nil && d[0] == row[1] {
					if same, err := writtenDefault(table.name, m[1], d[1]); err != nil || !same {
						t.Errorf("%s: %s = %s is not the default: %v", table.header(), m[1], d[1], err)
					}
				}
			}
		}
		for _, key := range table.keys {
			if common := slices.Contains([]string{"name", "comment", "disabled"}, key); !common && !keyNotYet(table.name, key) && !slices.Contains(keys, key) {
				t.Errorf("%s: %s is missing", table.header(), key)
			}
		}
		delete(found, table.name)
	}
	for table := range found {
		t.Errorf("there is no table %s", table)
	}
}

// writtenDefault compares a configuration in which the key is written with one in
// which a comment stands in its place.
func writtenDefault(table, key, value string) (same bool, err error) {
	written := keyCase{table: table, key: key}.one(value)
	a, _, err := Parse("f", []byte(written))
	if err != nil {
		return false, err
	}
	b, _, err := Parse("f", []byte(strings.Replace(written, "\n"+key+" =", "\n# "+key+" =", 1)))
	if err != nil {
		return false, err
	}
	for _, e := range append(entries(a), entries(b)...) {
		delete(e.keys, key)
	}
	return reflect.DeepEqual(a, b), nil
}

// entries are those of all tables.
func entries(c *Config) []*Entry {
	list := []*Entry{&c.Gateway.Entry, &c.Settings.Entry}
	for _, p := range c.Profiles {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Proposals {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Peers {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Identities {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Policies {
		list = append(list, &p.Entry)
	}
	for _, p := range c.ModeConfigs {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Pools {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Users {
		list = append(list, &p.Entry)
	}
	for _, p := range c.Certificates {
		list = append(list, &p.Entry)
	}
	return list
}
