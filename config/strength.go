package config

import (
	"bytes"
	"encoding/hex"
	"math"
	"unicode"
	"unicode/utf8"

	"culvert/crypto/secret"
)

// A pre-shared key can be guessed without anybody noticing: whoever answers once in the
// peer's place has what it needs to try secrets on a machine of its own (RFC 7296 §2.15,
// where its unpredictability is asked to be that of the strongest key). A postquantum
// preshared key should have 256 bits (RFC 8784 §6).

const (
	enoughBits    = 80
	enoughPPKBits = 240 // an estimate says a little less than 256 of bytes with a few steps in them
	// toldSecrets is how many identities are told one by one.
	toldSecrets = 8
)

// published is the secret of the README, which looks random.
var published, _ = hex.DecodeString("3c0aa1d2e05b9f6f1c7f0d3a64be0a58f1aa7a9b3e52d1c4a0c6bd8c8e9a7702")

// warnSecrets names identities whose secrets are short, or easy to guess.
func (l *loader) warnSecrets() {
	if l.disk.redacted() {
		return // names stand in the place of secrets
	}
	more := 0
	for _, i := range l.config.Identities {
		for _, s := range []struct {
			key    string
			secret secret.Bytes
			enough float64
		}{{"secret", i.Secret, enoughBits}, {"ppk-secret", i.PPKSecret, enoughPPKBits}} {
			key := s.key
			if !i.Written(key) {
				key += "-file"
			}
			if i.Disabled || !i.Written(key) || i.bad[key] || strength(s.secret) >= s.enough && !s.secret.Equal(published) {
				continue
			}
			if more++; more <= toldSecrets {
				l.warnAt(&i.Entry, "identity", key, "is short, easy to guess or published, write \"0x\" and the output of openssl rand -hex 32, at both ends")
			}
		}
	}
	if more > toldSecrets {
		l.warn(spot{file: l.config.Files[0]}, "identity", "%d more secrets are short, easy to guess or published: write \"0x\" and the output of openssl rand -hex 32 for each, at both ends", more-toldSecrets)
	}
}

// strength estimates the bits of a secret that somebody chose: those of random text,
// less for what repeats, counts, or reads like words. It knows no dictionary.
func strength(s []byte) float64 {
	if n := period(s); n < len(s) {
		return strength(s[:n]) + math.Log2(float64(len(s)/n))
	}
	binary := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
	switch {
	case bytes.ContainsFunc(s, binary):
		return steps(latin1(s), 8)
	case hexadecimal(s):
		return steps(bytes.Runes(s), 4)
	}
	bits := 0.0
	for text := bytes.Runes(s); len(text) > 0; {
		n := 1
		switch c := text[0]; {
		case unicode.IsLetter(c):
			n = run(text, unicode.IsLetter)
			each := math.Log2(52)
			if n >= 4 && wordlike(text[:n]) {
				each = wordBits
			}
			bits += steps(text[:n], each)
		case unicode.IsDigit(c):
			n = run(text, unicode.IsDigit)
			bits += steps(text[:n], math.Log2(10))
		case c == ' ' || c == '-' || c == '_' || c == '.':
			bits++ // between words
		default:
			bits += 5
		}
		text = text[n:]
	}
	return bits
}

// wordBits is what a letter of a word is worth: words drawn at random from a list of
// some thousands have about 13 bits and five letters.
const wordBits = 2.5

// steps counts each character, but as one bit where it goes on as those before it did:
// "aaa", "abc", "321".
func steps(s []rune, each float64) float64 {
	bits := 0.0
	for i := range s {
		if i > 1 && s[i]-s[i-1] == s[i-1]-s[i-2] && s[i]-s[i-1] <= 1 && s[i]-s[i-1] >= -1 {
			bits++
			continue
		}
		bits += each
	}
	return bits
}

// latin1 is text with a character for each byte.
func latin1(s []byte) []rune {
	text := make([]rune, len(s))
	for i, c := range s {
		text[i] = rune(c)
	}
	return text
}

// period is the length of the shortest text of which s is a whole number of copies.
func period(s []byte) int {
	for n := 1; n <= len(s)/2; n++ {
		if len(s)%n == 0 && bytes.Equal(s[n:], s[:len(s)-n]) {
			return n
		}
	}
	return len(s)
}

// hexadecimal reports whether s is written in it: long, and with more decimal digits
// among the letters than words have.
func hexadecimal(s []byte) bool {
	digits := 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return len(s) >= 16 && digits >= len(s)/4
}

func run(s []rune, of func(rune) bool) int {
	n := 0
	for n < len(s) && of(s[n]) {
		n++
	}
	return n
}

// wordlike: nothing but the first letter is a capital, or all are.
func wordlike(s []rune) bool {
	capital := unicode.IsUpper(s[len(s)-1])
	for _, c := range s[1:] {
		if unicode.IsUpper(c) != capital {
			return false
		}
	}
	return !capital || unicode.IsUpper(s[0])
}
