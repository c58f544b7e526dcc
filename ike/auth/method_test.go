package auth

import (
	"testing"

	"culvert/crypto/sign"
	"culvert/ike/core"
)

// Each row stands for one auth-method and for AUTH methods that no other row has; what is
// in no row proves nothing.
func TestMethods(t *testing.T) {
	auths, names, wires := map[core.AuthMethod]bool{}, map[string]bool{}, map[uint8]bool{}
	for _, m := range Methods {
		if auths[m.Auth] || names[m.Name] || m.Auth == 0 || m.Name == "" || m.Proof == "" || m.Prove == nil || m.Check == nil || len(m.Wire) == 0 {
			t.Errorf("the row %q is not whole, or there twice", m.Name)
		}
		auths[m.Auth], names[m.Name] = true, true
		for _, w := range m.Wire {
			if wires[w] {
				t.Errorf("AUTH method %d is of two rows", w)
			}
			wires[w] = true
			if got := MethodName(w); got != m.Proof {
				t.Errorf("AUTH method %d is called %q", w, got)
			}
		}
		if Of(m.Auth) != m {
			t.Errorf("%q is not found", m.Name)
		}
	}
	for _, s := range sign.Schemes {
		if !Signature.Goes(MethodOf(&s)) {
			t.Errorf("no row takes AUTH method %d, by which we sign", MethodOf(&s))
		}
	}
	if m := Of(99); m.Prove != nil || m.Check != nil || m.Goes(99) || MethodName(99) != "method 99" {
		t.Errorf("what is in no row is %+v", m)
	}
}
