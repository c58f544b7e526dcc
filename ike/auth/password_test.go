package auth

import (
	"encoding/hex"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

func TestPassword(t *testing.T) {
	anna := &core.User{Name: "anna", Password: secret.Bytes("correct horse")}
	for said, want := range map[string]bool{"correct horse": true, "correct horse\x00": false, "correct": false, "": false, "correct horsf": false} {
		if got := Password(anna, []byte(said)); got != want {
			t.Errorf("%q: %v", said, got)
		}
		if Password(nil, []byte(said)) {
			t.Errorf("%q is nobody's", said)
		}
	}
	if Password(&core.User{Name: "carl"}, []byte("x")) || Password(nil, nil) {
		t.Error("another password than the user's is right")
	}
}

// The MD5 of "\x01" "secret" "challenge" by another program.
func TestCHAP(t *testing.T) {
	if got := hex.EncodeToString(CHAP(1, secret.Bytes("secret"), []byte("challenge"))); got != chapAnswer {
		t.Errorf("%s, want %s", got, chapAnswer)
	}
}

const chapAnswer = "0146e47770030e2b4e26a0db72a7efec00"
