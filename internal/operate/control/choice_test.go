package control

import (
	"encoding/json"
	"testing"
)

func TestChoiceInJSON(t *testing.T) {
	for c, want := range map[Choice]string{Open: "null", No: "false", Yes: "true"} {
		b, err := json.Marshal(c)
		var back Choice = 7
		if err != nil || string(b) != want || json.Unmarshal(b, &back) != nil || back != c {
			t.Errorf("%v: %s, back %v", c, b, back)
		}
	}
	for c, want := range map[Choice]string{Open: "any", Chosen(false): "no", Chosen(true): "yes"} {
		if c.String() != want {
			t.Errorf("%q, want %q", c, want)
		}
	}
	var c Choice
	if json.Unmarshal([]byte(`"yes"`), &c) == nil {
		t.Error("a string is taken")
	}
}
