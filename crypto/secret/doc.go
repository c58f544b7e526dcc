// Package secret holds key material that must not be printed by accident.
package secret
