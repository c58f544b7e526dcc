//go:build linux

package interop

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"culvert/internal/testing/lab"
)

// Hybrid authentication of IKEv1 with strongSwan in both roles: the gateway has a certificate, and the user a password alone.
// The scenes are those of other road warriors.

// hybrid is how phase 1 goes.
type hybrid struct{ aggressive bool }

// hybridProofs are the gateways' certificates.
var hybridProofs = sync.OnceValue(func() *proofs {
	rsa := proof{key: "rsa-2048"}
	return (&proofs{we: rsa, they: rsa, v1: true}).make("v1-hybrid")
})

func hybridCellsV1() []cell {
	const g = "IKEv1, hybrid authentication"
	var cs []cell
	for _, aggressive := range []bool{false, true} {
		mode := map[bool]string{false: "main", true: "aggressive"}[aggressive]
		h := &hybrid{aggressive: aggressive}
		add := func(theyInitiate bool, name, does string, scene func(ctx context.Context, t *testing.T, l *lab.Lab)) {
			cs = append(cs, cell{group: g, name: "v1-hybrid-" + mode + "-" + name, mode: mode, theyInitiate: theyInitiate, scene: scene, event: event{name: does}})
		}
		add(true, "they-log-in", "strongSwan's user logs in, an address from our pool; phase 1 made anew: the same address", theirClientV1{xauth: true, hybrid: h}.run)
		add(true, "they-log-in-with-a-wrong-password", "a wrong password: nobody gets in, and we say which user it was", h.wrongPassword)
		add(false, "we-log-in", "we log in at strongSwan, an address from its pool; phase 1 made anew; all of it gone after SIGTERM", theirServerV1{xauth: true, hybrid: h}.run)
	}
	return cs
}

// ours makes our configuration, as server or as client, one with hybrid authentication.
func (h *hybrid) ours(text string, server bool) string {
	if h == nil {
		return text
	}
	p := hybridProofs()
	text = strings.Replace(text, "pre-shared-key-xauth", "rsa-signature-hybrid", 1)
	text = strings.Replace(text, "secret = \""+secret+"\"\n", "", 1)
	weID, theyID := p.identities()
	for old, id := range map[string]naming{"my-id": weID, "remote-id": theyID} {
		text = strings.Replace(text, fmt.Sprintf("%s = %q\n", old, "fqdn:office.example.net"), fmt.Sprintf("%s = %q\n", old, id.ours), 1)
	}
	if h.aggressive {
		text = strings.Replace(text, `exchange-mode = "main"`, `exchange-mode = "aggressive"`, 1)
	}
	if server {
		text = strings.Replace(text, "generate-policy", "certificate = \"we\"\ngenerate-policy", 1)
		return text + fmt.Sprintf("[[certificate]]\nname = \"we\"\nfile = %q\n", filepath.Join(p.dir, "we.pem"))
	}
	return text + fmt.Sprintf("[[certificate]]\nname = \"root\"\nfile = %q\n", filepath.Join(p.dir, "root.pem"))
}

// theirs does the same for strongSwan's, whose files it puts on the node.
func (h *hybrid) theirs(n *lab.Node, text string, server bool) string {
	if h == nil {
		return text
	}
	p := hybridProofs()
	n.SwanctlFiles(p.files)
	weID, theyID := p.identities()
	if h.aggressive {
		text = strings.Replace(text, "version = 1", "version = 1\n\t\taggressive = yes", 1)
	}
	if server {
		text = strings.Replace(text, "auth = psk\n\t\t\tid = office.example.net", "auth = pubkey\n\t\t\tcerts = they.pem\n\t\t\tid = "+theyID.swan, 1)
		text = strings.Replace(text, "remote {\n\t\t\tauth = psk\n\t\t}\n\t\tremote-xauth", "remote", 1)
		return text
	}
	text = strings.Replace(text, "local {\n\t\t\tauth = psk\n\t\t}\n\t\tlocal-xauth", "local", 1)
	return strings.Replace(text, "auth = psk\n\t\t\tid = office.example.net", "auth = pubkey\n\t\t\tid = "+weID.swan, 1)
}

func (h *hybrid) wrongPassword(ctx context.Context, t *testing.T, l *lab.Lab) {
	wrongPassword(ctx, t, l, h)
}
