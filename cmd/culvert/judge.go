package main

import "culvert/internal/gateway"

// judgeStateCmd is run by the gateway.
type judgeStateCmd struct {
	File string `arg:"" name:"FILE" help:"The state file."`
}

func (judgeStateCmd) Help() string {
	return `Checks whether the state file of a gateway is damaged. The gateway runs this before it opens the file, because reading a damaged file can crash a process. The output is one line: sound, in use, damaged with the reason, or error. The file is not changed.

Example:

    culvert judge-state /var/lib/culvert/culvert.db`
}

func (c *judgeStateCmd) Run(s *session) error { return gateway.JudgeState(s.stdout, c.File) }
