package fileowner

import "testing"

// Who owns a file with secrets reads it, whatever its mode says.
func TestOwners(t *testing.T) {
	known := map[string]int{"root": 0, "ours": 990, "theirs": 1000}
	owner := func(path string) (int, bool) { uid, ok := known[path]; return uid, ok }
	files := []string{"root", "ours", "theirs", "gone"}
	got := check(files, 990, owner)
	if len(got) != 1 || got[0].String() != "theirs: has secrets and belongs to user 1000, who can read and change it, while the gateway runs as user 990: run chown 990 on it" {
		t.Errorf("%v", got)
	}
	if got := check(files, 0, owner); len(got) != 2 {
		t.Errorf("as root: %v", got)
	}
	if got := check(files, 990, func(string) (int, bool) { return 1000, false }); len(got) != 0 {
		t.Errorf("where the owner is not known: %v", got)
	}
	if uid, ok := of(t.TempDir()); ok && uid < 0 {
		t.Errorf("a folder of our own belongs to %d", uid)
	}
}
