package control

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	behind := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "culvert (devel)"},
		{&debug.BuildInfo{}, "culvert (devel)"},
		{&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "culvert v1.2.3"},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "GOOS", Value: "plan9"}, {Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "false"},
			{Key: "vcs.time", Value: "2030-01-02T03:04:05Z"}}}, "culvert (devel) revision abc 2030-01-02T03:04:05Z"},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}}}, "culvert (devel) revision abc (modified)"},
	} {
		if got := versionOf(c.info).String(); got != c.want+behind {
			t.Errorf("%q, want %q", got, c.want+behind)
		}
	}
}
