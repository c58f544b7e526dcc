// Package archtest holds the house's own rules as tests: a rule that is not run
// is a wish.
package archtest
