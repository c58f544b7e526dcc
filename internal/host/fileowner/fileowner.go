package fileowner

import (
	"fmt"

	"culvert/config"
)

// Warnings warns of files with secrets that belong to somebody else than this process's
// user or root, who can read and change them whatever their mode says. It is for a
// gateway that runs: who only checks a file may be another user.
func Warnings(files []string, self int) []config.Warning { return check(files, self, of) }

func check(files []string, self int, owner func(path string) (uid int, ok bool)) (warnings []config.Warning) {
	for _, path := range files {
		if uid, ok := owner(path); ok && uid != 0 && uid != self {
			warnings = append(warnings, config.Warning{File: path,
				Message: fmt.Sprintf("has secrets and belongs to user %d, who can read and change it, while the gateway runs as user %d: run chown %d on it", uid, self, self)})
		}
	}
	return warnings
}
