package main

import (
	"fmt"
	"slices"
	"strings"
)

// pick returns which of all a list names, in the order of all. A name that ends in *
// is a prefix; an empty list is all.
func pick(list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, name := range strings.Split(list, ",") {
		name = strings.TrimSpace(name)
		prefix, is := strings.CutSuffix(name, "*")
		found := false
		for _, a := range all {
			if a == name || is && strings.HasPrefix(a, prefix) {
				wanted[a], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %q: choose among %s", name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !wanted[a] }), nil
}
