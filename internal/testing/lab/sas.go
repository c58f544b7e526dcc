package lab

import (
	"strconv"

	"golang.org/x/crypto/cryptobyte"
)

// IKESA is an IKE SA as strongSwan reports it. Algorithm names are strongSwan's:
// "AES_CBC", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256", "MODP_2048".
type IKESA struct {
	Name         string // of the connection
	UniqueID     string
	State        string // "ESTABLISHED", "CONNECTING", …
	Initiator    bool   // strongSwan began it
	InitiatorSPI string
	ResponderSPI string
	Encr         string
	KeySize      int // bits
	Integ        string
	PRF          string
	DH           string
	LocalNAT     bool // strongSwan believes that it is behind a NAT
	RemoteNAT    bool // strongSwan believes that we are (or was made to: see Charon's libipsec)
	Remote       string
	RemotePort   int
	Children     []ChildSA
}

// ChildSA is a CHILD SA as strongSwan reports it; its view: In is what it received.
type ChildSA struct {
	Name     string
	State    string // "INSTALLED", "REKEYED", "DELETED", …
	Mode     string // "TUNNEL"
	Protocol string // "ESP"
	SPIIn    string // eight hexadecimal digits
	SPIOut   string
	Encr     string
	KeySize  int    // bits
	Integ    string // empty with an AEAD
	DH       string // of the exchange that made this SA; empty without PFS and for the first SA
	ESN      bool
	BytesIn  uint64 // inner packets
	BytesOut uint64
	LocalTS  []string
	RemoteTS []string
}

// parseSAs reads what viciSAs returns.
func parseSAs(list []byte) ([]IKESA, error) {
	var sas []IKESA
	for rest := cryptobyte.String(list); !rest.Empty(); {
		root, err := readSection(&rest)
		if err != nil {
			return nil, err
		}
		for _, s := range root.sections {
			sas = append(sas, s.ikeSA())
		}
	}
	return sas, nil
}

func (s *section) ikeSA() IKESA {
	sa := IKESA{
		Name:         s.name,
		UniqueID:     s.values["uniqueid"],
		State:        s.values["state"],
		Initiator:    s.yes("initiator"),
		InitiatorSPI: s.values["initiator-spi"],
		ResponderSPI: s.values["responder-spi"],
		Encr:         s.values["encr-alg"],
		KeySize:      int(s.number("encr-keysize")),
		Integ:        s.values["integ-alg"],
		PRF:          s.values["prf-alg"],
		DH:           s.values["dh-group"],
		LocalNAT:     s.yes("nat-local"),
		RemoteNAT:    s.yes("nat-remote"),
		Remote:       s.values["remote-host"],
		RemotePort:   int(s.number("remote-port")),
	}
	for _, sub := range s.sections {
		if sub.name != "child-sas" {
			continue
		}
		for _, c := range sub.sections {
			sa.Children = append(sa.Children, c.childSA())
		}
	}
	return sa
}

func (s *section) childSA() ChildSA {
	return ChildSA{
		Name:     s.values["name"],
		State:    s.values["state"],
		Mode:     s.values["mode"],
		Protocol: s.values["protocol"],
		SPIIn:    s.values["spi-in"],
		SPIOut:   s.values["spi-out"],
		Encr:     s.values["encr-alg"],
		KeySize:  int(s.number("encr-keysize")),
		Integ:    s.values["integ-alg"],
		DH:       s.values["dh-group"],
		ESN:      s.values["esn"] == "1" || s.yes("esn"),
		BytesIn:  s.number("bytes-in"),
		BytesOut: s.number("bytes-out"),
		LocalTS:  s.lists["local-ts"],
		RemoteTS: s.lists["remote-ts"],
	}
}

func (s *section) yes(key string) bool { return s.values[key] == "yes" }

// number is 0 for what is absent: strongSwan leaves out counters and sizes that are 0.
func (s *section) number(key string) uint64 {
	n, err := strconv.ParseUint(s.values[key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
