package table

import (
	"strings"
	"testing"
)

// row has what the rows of the menus have: a number, flags, and properties of each kind.
type row struct {
	Number   int
	Disabled bool   `json:"disabled" flag:"X"`
	Dynamic  bool   `json:"dynamic" flag:"D"`
	Name     string `json:"name"`
	Bytes    uint64 `json:"current-bytes"`
	Tunnel   bool   `json:"tunnel"`
	Comment  string `json:"comment"`
}

const legend = "Flags: X - disabled, D - dynamic\n"

func written(t *testing.T, rows []row, width int) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, rows, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	wide := []row{{Name: "a", Bytes: 5}, {Number: 10, Disabled: true, Dynamic: true, Name: "grün", Bytes: 12345, Tunnel: true}}
	for _, c := range []struct {
		name  string
		rows  []row
		width int
		want  string
	}{
		{"nothing", nil, 0, legend + "(no entries)\n"},
		{"numbers to the right, words to the left, a column without values left out", wide, 0,
			legend + " #      NAME  CURRENT-BYTES  TUNNEL\n 0      a                 5  no\n10  XD  grün          12345  yes\n"},
		{"no flag is set", wide[:1], 0, legend + "#  NAME  CURRENT-BYTES  TUNNEL\n0  a                 5  no\n"},
		{"it just fits", wide[:1], 30, legend + "#  NAME  CURRENT-BYTES  TUNNEL\n0  a                 5  no\n"},
		{"too wide for the terminal", wide[:1], 29, legend + "0 name=a current-bytes=5\n    tunnel=no\n"},
		{"what a stranger chose does not steer the terminal", []row{{Name: "a\x1b[2Jb\xff"}}, 0,
			legend + `#  NAME           CURRENT-BYTES  TUNNEL` + "\n" + `0  a\x1b[2Jb\xff              0  no` + "\n"},
	} {
		if got := written(t, c.rows, c.width); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestWriteDetail(t *testing.T) {
	var b strings.Builder
	rows := []row{{Name: "a", Comment: "two words"}, {Number: 1, Dynamic: true, Name: "b", Bytes: 7}}
	if err := WriteDetail(&b, rows, 0); err != nil {
		t.Fatal(err)
	}
	want := legend + "0 name=a current-bytes=0 tunnel=no comment=\"two words\"\n\n1 D name=b current-bytes=7 tunnel=no\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := WriteDetail[row](&b, nil, 0); err != nil || b.String() != legend+"(no entries)\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
