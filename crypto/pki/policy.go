package pki

import (
	"crypto/x509"
	"errors"
)

const anyPolicy = "2.5.29.32.0"

// policies follows the certificate policies of a path (RFC 5280 §6.1, the leaf
// first and the trusted certificate last). Nobody here asks for a policy, so all
// that has to be known is whether there is one that holds where the path itself
// asks for one. Of the tree of §6.1.2 (a) that needs only the nodes of the current
// depth: the tree is empty when those are.
func policies(path []*x509.Certificate) error {
	n := len(path) - 1
	explicit, mapping, inhibit := n+1, n+1, n+1
	level := map[string][]string{anyPolicy: {anyPolicy}} // valid policy: expected policies; nil: none
	for i := n - 1; i >= 0; i-- {
		c, last := path[i], i == 0
		level = descend(level, c, inhibit > 0 || !last && selfIssued(c)) // §6.1.3 (d), (e)
		if explicit == 0 && level == nil {                               // (f)
			return errors.New("it has none of the certificate policies that an authority above it asks for")
		}
		if last {
			break
		}
		var err error
		if level, err = mapped(level, c, mapping > 0); err != nil { // §6.1.4 (a), (b)
			return err
		}
		if !selfIssued(c) { // (h)
			explicit, mapping, inhibit = max(explicit-1, 0), max(mapping-1, 0), max(inhibit-1, 0)
		}
		limit(&explicit, c.RequireExplicitPolicy, c.RequireExplicitPolicyZero) // (i)
		limit(&mapping, c.InhibitPolicyMapping, c.InhibitPolicyMappingZero)
		limit(&inhibit, c.InhibitAnyPolicy, c.InhibitAnyPolicyZero) // (j)
	}
	if n > 0 { // §6.1.5 (a), (b), (g)
		explicit = max(explicit-1, 0)
		if path[0].RequireExplicitPolicyZero {
			explicit = 0
		}
		if explicit == 0 && level == nil {
			return errors.New("it has none of the certificate policies that an authority above it asks for")
		}
	}
	return nil
}

// limit lowers a counter to what a certificate says; zero tells 0 from nothing.
func limit(counter *int, n int, zero bool) {
	if n > 0 || zero {
		*counter = min(*counter, n)
	}
}

// descend is the nodes of the next depth; nil if there are none.
func descend(level map[string][]string, c *x509.Certificate, anyCounts bool) map[string][]string {
	expected := map[string]bool{}
	for _, list := range level {
		for _, p := range list {
			expected[p] = true
		}
	}
	_, above := level[anyPolicy]
	next := map[string][]string{}
	hasAny := false
	for _, oid := range c.Policies {
		switch p := oid.String(); {
		case p == anyPolicy:
			hasAny = true
		case expected[p] || above:
			next[p] = []string{p}
		}
	}
	if hasAny && anyCounts {
		for p := range expected {
			next[p] = []string{p}
		}
	}
	if len(next) == 0 {
		return nil
	}
	return next
}

// mapped applies the policy mappings of a certificate; allowed: they may map, else
// what they would map ends.
func mapped(level map[string][]string, c *x509.Certificate, allowed bool) (map[string][]string, error) {
	to := map[string][]string{}
	for _, m := range c.PolicyMappings {
		from, into := m.IssuerDomainPolicy.String(), m.SubjectDomainPolicy.String()
		if from == anyPolicy || into == anyPolicy {
			return nil, errors.New("an authority above it maps the certificate policy anyPolicy, which may not be")
		}
		to[from] = append(to[from], into)
	}
	_, hasAny := level[anyPolicy]
	for from, into := range to {
		_, has := level[from]
		switch {
		case !allowed:
			delete(level, from)
		case has || hasAny:
			level[from] = into
		}
	}
	if len(level) == 0 {
		return nil, nil
	}
	return level, nil
}
