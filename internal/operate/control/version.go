package control

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is what a binary knows about its own making.
type Version struct {
	Version  string `json:"version"`  // module version, "(devel)" when built from a work tree
	Revision string `json:"revision"` // of the source; empty if it was not recorded
	Modified bool   `json:"modified"` // the work tree differed from Revision
	Time     string `json:"time"`     // of Revision, RFC 3339
	Go       string `json:"go"`       // "go1.26.0"
	Platform string `json:"platform"` // "linux/amd64"
}

// ReadVersion reads what the compiler recorded in the running binary.
func ReadVersion() Version {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}

// versionOf is of what was recorded; nil if nothing was.
func versionOf(info *debug.BuildInfo) Version {
	v := Version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

// String is the version in one line.
func (v Version) String() string {
	words := []string{"culvert", v.Version}
	if v.Revision != "" {
		revision := "revision " + v.Revision
		if v.Modified {
			revision += " (modified)"
		}
		words = append(words, revision)
	}
	if v.Time != "" {
		words = append(words, v.Time)
	}
	return strings.Join(append(words, v.Go, v.Platform), " ")
}
