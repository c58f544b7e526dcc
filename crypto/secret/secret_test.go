package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// However a secret is printed, alone or inside something, it does not show.
func TestBytesHide(t *testing.T) {
	key := Bytes("correct horse")
	type holder struct {
		Name string
		Key  Bytes
	}
	shown := map[string]string{"String": key.String(), "GoString": key.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%T %v"} {
		args := []any{key}
		if verb == "%T %v" {
			args = []any{key, key}
		}
		shown[verb] = fmt.Sprintf(verb, args...)
		shown["inside "+verb] = fmt.Sprintf(strings.TrimPrefix(verb, "%T "), holder{"h", key})
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("key", "key", key, "holder", holder{"h", key})
		shown[name] = b.String()
	}
	j, err := json.Marshal(holder{"h", key})
	if err != nil {
		t.Fatal(err)
	}
	shown["json"] = string(j)
	for how, text := range shown {
		low := strings.ToLower(text)
		for _, leak := range []string{"correct", "636f7272", "63 6f 72", "99 111 114", "y29ycmvj"} {
			if strings.Contains(low, leak) {
				t.Errorf("%s shows the secret: %s", how, text)
			}
		}
		if !strings.Contains(text, hidden) {
			t.Errorf("%s does not say that something is hidden: %s", how, text)
		}
	}
	if got := key.Reveal(); got != "636f727265637420686f727365" {
		t.Errorf("Reveal: %s", got)
	}
}

func TestBytesCopyCompareWipe(t *testing.T) {
	key := Bytes{1, 2, 3}
	c := key.Clone()
	if !c.Equal(key) || c.Equal([]byte{1, 2, 4}) || c.Equal([]byte{1, 2}) || Bytes(nil).Clone() != nil {
		t.Error("Clone or Equal")
	}
	key.Wipe()
	if !bytes.Equal(key, []byte{0, 0, 0}) || !c.Equal([]byte{1, 2, 3}) {
		t.Error("Wipe overwrites the bytes, and a clone keeps its own")
	}
}
