package main

import "culvert/internal/gateway"

// judgeStateCmd is started by the gateway, not by people.
type judgeStateCmd struct {
	File string `arg:"" name:"FILE" help:"The file with the state."`
}

func (judgeStateCmd) Help() string {
	return `Reads a file with the state of a gateway and says whether it is damaged. The gateway runs this before it opens the file, because reading a damaged file can end a process. The output is one line: sound, in use, damaged with the reason, or error. The file is not changed.

Example:

    culvert judge-state /var/lib/culvert/culvert.db`
}

func (c *judgeStateCmd) Run(s *session) error { return gateway.JudgeState(s.stdout, c.File) }
