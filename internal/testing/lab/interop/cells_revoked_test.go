//go:build linux

package interop

import (
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"culvert/internal/testing/lab"
	"culvert/internal/testing/testcert"
)

// revocationCells: certificates that are known to be good, and one of each side
// that was revoked, by a CRL in a file, a CRL from the web and an OCSP responder.
// Both sides ask strictly: what is not known to be good is refused.
var revocationCells = sync.OnceValue(makeRevocationCells) // certificates are made once

func makeRevocationCells() []cell {
	const g = "Revoked certificates"
	var cs []cell
	for i, by := range []string{"crl-file", "crl-url", "crl-points", "ocsp"} {
		for _, who := range []side{nobody, we, they} {
			if by == "crl-url" && who == we {
				continue // strongSwan knows no URL but that in the certificate
			}
			p := revocable(by, who)
			c := cell{group: g, proofs: p}
			switch who {
			case nobody:
				c.name, c.event = "not-revoked-"+by, event{name: "nobody was revoked; culvert rekeys the IKE SA", do: weRekeyIKE.do}
			case we:
				c.name, c.event = "revoked-culvert-"+by, event{name: "strongSwan refuses culvert's certificate"}
				c.refused = &refusal{they, peerRefused, "certificate was revoked on"}
			case they:
				c.name, c.event = "revoked-strongswan-"+by, event{name: "culvert refuses strongSwan's certificate"}
				c.refused = &refusal{we, "was revoked on", "AUTH_FAILED"}
			}
			if who == nobody {
				c.theyInitiate = i%2 == 1
				cs = append(cs, c)
				continue
			}
			ours, theirs := c, c
			ours.name, theirs.name, theirs.theyInitiate = c.name+"-we-initiate", c.name+"-they-initiate", true
			cs = append(cs, ours, theirs)
		}
	}
	return cs
}

// revocable makes the certificates and what tells about them; revoked is whose is not good any more.
func revocable(by string, revoked side) *proofs {
	const web = "http://" + lab.WebAddr + "/"
	signed := proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}
	p := &proofs{we: signed, they: signed, revocation: "strict", authority: "crl-policy = \"strict\"\n"}
	switch by {
	case "crl-url": // ours has it in the configuration, strongSwan from our certificate
		p.we.options = []testcert.Option{testcert.CRLAt(web + "root.crl")}
		p.authority += fmt.Sprintf("crl = %q\n", web+"root.crl")
	case "crl-points":
		p.we.options = []testcert.Option{testcert.CRLAt(web + "root.crl")}
		p.they.options = p.we.options
		p.authority += "crl = \"distribution-points\"\n"
	case "ocsp":
		p.we.options = []testcert.Option{testcert.OCSP(web + "we.ocsp")}
		p.they.options = []testcert.Option{testcert.OCSP(web + "they.ocsp")}
		p.authority += "ocsp = true\n"
	}
	p.make("revocation-" + by + "-" + map[side]string{nobody: "nobody", we: "we", they: "they"}[revoked])
	var list []*testcert.Pair
	switch revoked {
	case we:
		list = append(list, p.weLeaf)
	case they:
		list = append(list, p.theyLeaf)
	}
	from := time.Now().Add(-time.Hour)
	until := from.Add(48 * time.Hour)
	crl := p.root.CRL(from, until, list...)
	switch by {
	case "crl-file":
		text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl})
		p.authority += fmt.Sprintf("crl = %q\n", p.write("root.crl", text))
		p.files["x509crl/root.pem"] = text
	case "crl-url", "crl-points":
		p.webs = map[string][]byte{"root.crl": crl}
	case "ocsp":
		p.webs = map[string][]byte{
			"we.ocsp":   p.root.Answer(p.weLeaf, revoked == we, from, until),
			"they.ocsp": p.root.Answer(p.theyLeaf, revoked == they, from, until),
		}
	}
	return p
}
