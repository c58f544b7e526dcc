package pki

import (
	"crypto/x509"
	"testing"
)

// Certificate policies along a path (RFC 5280 §6.1.2 to §6.1.5). Each path is written
// from the trusted certificate's first issue down to the end.
func TestPolicies(t *testing.T) {
	oid := func(s string) x509.OID {
		o, err := x509.ParseOID(s)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	names := map[string]x509.OID{"A": oid("1.2.3"), "B": oid("1.2.4"), "*": oid(anyPolicy)}
	type change func(*x509.Certificate)
	with := func(policies string, changes ...change) *x509.Certificate {
		c := &x509.Certificate{RawSubject: cn(0x0c, "s"), RawIssuer: cn(0x0c, "i")}
		for _, p := range policies {
			c.Policies = append(c.Policies, names[string(p)])
		}
		for _, change := range changes {
			change(c)
		}
		return c
	}
	explicit := func(n int) change {
		return func(c *x509.Certificate) { c.RequireExplicitPolicy, c.RequireExplicitPolicyZero = n, n == 0 }
	}
	noAny := func(n int) change {
		return func(c *x509.Certificate) { c.InhibitAnyPolicy, c.InhibitAnyPolicyZero = n, n == 0 }
	}
	noMap := func(n int) change {
		return func(c *x509.Certificate) { c.InhibitPolicyMapping, c.InhibitPolicyMappingZero = n, n == 0 }
	}
	maps := func(from, to string) change {
		return func(c *x509.Certificate) {
			c.PolicyMappings = append(c.PolicyMappings, x509.PolicyMapping{IssuerDomainPolicy: names[from], SubjectDomainPolicy: names[to]})
		}
	}
	self := func(c *x509.Certificate) { c.RawIssuer = c.RawSubject }
	for _, c := range []struct {
		what string
		path []*x509.Certificate
		ok   bool
	}{
		{"nobody asks", []*x509.Certificate{with("A"), with("")}, true},
		{"the same policy", []*x509.Certificate{with("A", explicit(0)), with("A")}, true},
		{"one of two", []*x509.Certificate{with("AB", explicit(0)), with("B")}, true},
		{"another policy", []*x509.Certificate{with("A", explicit(0)), with("B")}, false},
		{"no policy", []*x509.Certificate{with("A", explicit(0)), with("")}, false},
		{"no policy of the authority", []*x509.Certificate{with("", explicit(0)), with("A")}, false},
		{"any, then one", []*x509.Certificate{with("*", explicit(0)), with("A")}, true},
		{"one, then any", []*x509.Certificate{with("A", explicit(0)), with("*")}, true},
		{"one, then any, then another", []*x509.Certificate{with("A", explicit(0)), with("*"), with("B")}, false},
		{"any is inhibited", []*x509.Certificate{with("A", explicit(0), noAny(0)), with("*")}, false},
		{"any is inhibited one later", []*x509.Certificate{with("A", explicit(0), noAny(1)), with("*"), with("A")}, true},
		{"any is inhibited by now", []*x509.Certificate{with("A", explicit(0), noAny(1)), with("A"), with("*")}, false},
		{"any of a self-issued one", []*x509.Certificate{with("A", explicit(0), noAny(0)), with("*", self), with("A")}, true},
		{"any of a self-issued end", []*x509.Certificate{with("A", explicit(0), noAny(0)), with("*", self)}, false},
		{"mapped", []*x509.Certificate{with("A", explicit(0), maps("A", "B")), with("B")}, true},
		{"mapped away", []*x509.Certificate{with("A", explicit(0), maps("A", "B")), with("A")}, false},
		{"mapped from any", []*x509.Certificate{with("*", explicit(0), maps("A", "B")), with("B")}, true},
		{"mapping is inhibited", []*x509.Certificate{with("A", explicit(0), noMap(0)), with("A", maps("A", "B")), with("B")}, false},
		{"what is mapped ends where mapping is inhibited", []*x509.Certificate{with("A", explicit(0), noMap(0)), with("A", maps("A", "B")), with("A")}, false},
		{"mapping of any", []*x509.Certificate{with("A", maps("*", "B")), with("B")}, false},
		{"mapping to any", []*x509.Certificate{with("A", maps("A", "*")), with("B")}, false},
		{"asked for in time", []*x509.Certificate{with("", explicit(2)), with(""), with("")}, false},
		{"asked for later", []*x509.Certificate{with("", explicit(3)), with(""), with("")}, true},
		{"self-issued ones do not count", []*x509.Certificate{with("", explicit(2)), with("", self), with("")}, true},
		{"the end asks", []*x509.Certificate{with("A"), with("", explicit(0))}, false},
	} {
		path := []*x509.Certificate{with("")} // the trusted one, whose policies do not count
		for _, cert := range c.path {
			path = append([]*x509.Certificate{cert}, path...)
		}
		if err := policies(path); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
