// Package config reads Culvert's configuration: TOML whose tables are the
// manual's menus, whose keys are its properties and whose defaults are its
// defaults. Load gives typed structs with every default filled in, every name
// resolved and every algorithm a row of crypto/suite, or all faults at once.
package config
