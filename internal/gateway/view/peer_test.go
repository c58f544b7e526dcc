package view

import (
	"testing"
	"time"

	"culvert/ike/core"
)

func TestExplainSinceItIsEstablished(t *testing.T) {
	made := time.Unix(1000, 0)
	sa := core.SAInfo{Created: made}
	if got := begun(&sa); got != made {
		t.Error("connecting since", got)
	}
	if sa.Established = made.Add(time.Minute); begun(&sa) != sa.Established {
		t.Error("established since", begun(&sa))
	}
}
