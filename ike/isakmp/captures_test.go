package isakmp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"culvert/ike/message"
	"culvert/internal/testing/vectors"
)

// captured are the IKEv1 messages of the captures of other programs: the number of the frame, the
// exchange and the payloads, with the attributes of every transform. A program of a few lines that
// shares nothing with this package read the same from them, and where corelight-zeek-ipsec has
// logs, Zeek did.
var captured = map[string][]string{
	"arkime/IKEv1.pcap": {
		"1: 2, SA 1 1 [1 1 - {1 1: 11=0001 12=7080 1=0007 14=0100 3=0001 2=0006 4=0014}], VID afcad713, VID a9b9b103",
		"2: 2, SA 1 1 [1 1 - {1 1: 11=0001 12=7080 1=0007 14=0100 3=0001 2=0006 4=0014}], VID afcad713, VID 4048b7d5, VID 4048b7d5, VID 82990317",
		"3: 2, SA 1 1 [1 1 - {1 1: 11=0001 12=7080 1=0007 14=0100 3=0001 2=0006 4=0014}], VID afcad713, VID 4048b7d5, VID a9b9b103",
		"4: 2, KE 6bd9 96, NONCE f5e5 32",
		"5: 2, KE 304d 96, NONCE 7029 16",
		"6: 2 sealed, ID first, 128 bytes",
		"7: 2 sealed, ID first, 96 bytes",
		"8: 32 sealed, HASH first, 304 bytes",
		"9: 32 sealed, HASH first, 352 bytes",
		"10: 32 sealed, HASH first, 288 bytes",
		"11: 32 sealed, HASH first, 336 bytes",
		"12: 32 sealed, HASH first, 80 bytes",
		"13: 32 sealed, HASH first, 80 bytes",
	},
	"arkime/ike-cert_synthetic.pcap": {
		"1: the body ends too early", // an SA without proposals
		"3: the body ends too early",
		"6: 2",
		"7: 2",
	},
	"wireshark-wiki/attachment_ikev1_main_mode.pcap": {
		"1: 2, SA 1 1 [1 1 - {1 1: 11=0001 12=7080 1=0007 14=0080 3=0001 2=0002 4=0002}], VID afcad713, VID a9b9b103",
		"2: 2, SA 1 1 [1 1 - {1 1: 11=0001 12=7080 1=0007 14=0080 3=0001 2=0002 4=0002}], VID afcad713, VID a9b9b103",
		"3: 2, KE 1e37 128, NONCE 0a4a 16",
		"4: 2, KE 0d68 128, NONCE 5fc6 16",
		"5: 2 sealed, ID first, 48 bytes",
		"6: 2 sealed, ID first, 48 bytes",
		"7: 32 sealed, HASH first, 272 bytes",
		"8: 32 sealed, HASH first, 272 bytes",
		"9: 32 sealed, HASH first, 32 bytes",
		"10: 5 sealed, HASH first, 64 bytes",
		"11: 5 sealed, HASH first, 64 bytes",
		"12: 5 sealed, HASH first, 64 bytes",
	},
	"corelight-zeek-ipsec/ipsec-ikev1-isakmp-aggressive-mode.pcap": {
		"1: 4, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 4=0002 3=0001 11=0001 12=00015180}], VID 4a131c81, VID 439b59f8, VID 7d9419a6, VID 90cb8091, KE 2f7c 128, NONCE f452 20, ID 1 17 0 c0a80c02, VID afcad713, VID 09002689, VID 11bdfe02",
		"2: 4, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 4=0002 3=0001 11=0001 12=00015180}], VID 12f5f28c, VID afcad713, VID 55cc29ed, VID 09002689, VID 4a131c81, KE 6d02 128, ID 1 0 0 c0a80c02, NONCE 1f26 20, HASH 8585 20, NAT-D f41c 20, NAT-D 453d 20",
		"3: 4 sealed, HASH first, 112 bytes",
		"4: 32 sealed, HASH first, 192 bytes",
		"5: 32 sealed, HASH first, 192 bytes",
		"6: 32 sealed, HASH first, 32 bytes",
	},
	"corelight-zeek-ipsec/ipsec-ikev1-isakmp-main-mode.pcap": {
		"1: 2, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 4=0002 3=0001 11=0001 12=00015180}], VID 4a131c81, VID 439b59f8, VID 7d9419a6, VID 90cb8091",
		"2: 2, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 4=0002 3=0001 11=0001 12=00015180}], VID 4a131c81",
		"3: 2, KE 3504 128, NONCE 89d7 20, VID afcad713, VID 11bdfe02, VID 09002689, NAT-D 1574 20, NAT-D febf 20",
		"4: 2, KE 6d02 128, NONCE 15b6 20, VID 12f5f28c, VID afcad713, VID 55cc29ed, VID 09002689, NAT-D febf 20, NAT-D 1574 20",
		"5: 2 sealed, ID first, 80 bytes",
		"6: 2 sealed, ID first, 48 bytes",
		"7: 32 sealed, HASH first, 192 bytes",
		"8: 32 sealed, HASH first, 192 bytes",
		"9: 32 sealed, HASH first, 32 bytes",
	},
	"corelight-zeek-ipsec/ipsec-ikev1-zero-length.pcap": {
		"1: the header says 0 bytes, the datagram has 168",
	},
	"corelight-zeek-ipsec/ipsec.cap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=1e78 1=0005 2=0002 3=0001 4=0002}], VID 882fe56d, VID 12f5f28c, VID 09002689, VID afcad713, VID 4a131c81, VID 7d9419a6, VID cd604643, VID 90cb8091, VID 4485152d",
		"2: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=1e78 1=0005 2=0002 3=0001 4=0002}], VID 882fe56d, VID 12f5f28c, VID 09002689, VID afcad713, VID 4a131c81",
		"3: 5, N 1 1 14 - -",
		"4: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=1e78 1=0005 2=0002 3=0001 4=0002}], VID 882fe56d, VID 12f5f28c, VID 09002689, VID afcad713, VID 4a131c81",
		"5: 2, KE a812 128, NONCE 7483 16, NAT-D 7048 20, NAT-D c9e4 20",
		"6: 2, KE 0a63 128, NONCE 63da 16, NAT-D c9e4 20, NAT-D 7048 20",
		"7: 2 sealed, ID first, 40 bytes",
		"8: 2 sealed, ID first, 40 bytes",
		"9: 32 sealed, HASH first, 128 bytes",
		"10: 32 sealed, HASH first, 128 bytes",
		"11: 32 sealed, HASH first, 24 bytes",
	},
	"openswan-unit/pcap/libpluto__lp101-v1rwnatQR1failed__v1rwnatM2.pcap": {
		"1: 2, KE bfda 256, NONCE 3cd5 16, NAT-D aa5b 16, NAT-D 4c76 16",
	},
	"openswan-unit/pcap/libpluto__lp101-v1rwnatQR1failed__v1rwnatM3.pcap": {
		"1: 2 sealed, ID first, 296 bytes",
	},
	"openswan-unit/pcap/libpluto__lp101-v1rwnatQR1failed__v1rwnatQI1.pcap": {
		"1: 32 sealed, HASH first, 128 bytes",
	},
	"openswan-unit/pcap/libpluto__lp104-v1rwnatM2__v1rwnatN1.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 3=0003 1=0005 2=0001 4=000e}], VID 4f45706c, VID afcad713, VID 4a131c81",
	},
	"openswan-unit/pcap/libpluto__lp106-v1rwnatM3__v1rwnatN2.pcap": {
		"1: 2, KE bfda 256, NONCE 3cd5 16, NAT-D 1c61 16, NAT-D aa5b 16",
	},
	"openswan-unit/pcap/libpluto__lp174-parentM2__parentN1.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 3=0003 1=0007 14=0080 2=0004 4=000e}], VID 4f45706c, VID afcad713, VID 4a131c81",
	},
	"openswan-unit/pcap/libpluto__lp175-parentN2__parentM2.pcap": {
		"1: 2, KE 3da6 256, NONCE 2098 16, NAT-D 285b 32, NAT-D 3bf6 32",
	},
	"openswan-unit/pcap/libpluto__lp176-parentM3__parentN2.pcap": {
		"1: 2, KE bd48 256, NONCE 2098 16, NAT-D b08c 32, NAT-D 285b 32",
	},
	"openswan-unit/pcap/libpluto__lp183-v1certN1__v1certM1.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 3=0003 1=0005 2=0001 4=000e}], VID 4f45706c, VID afcad713, VID 4a131c81, VID 7d9419a6, VID 90cb8091, VID cd604643, VID 4485152d",
	},
	"openswan-unit/pcap/libpluto__lp184-v1certM2__v1certN1.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 3=0003 1=0005 2=0001 4=000e}], VID 4f45706c, VID afcad713, VID 4a131c81",
	},
	"openswan-unit/pcap/libpluto__lp186-v1certM3__v1certN2.pcap": {
		"1: 2, KE bfda 256, NONCE 3cd5 16, NAT-D 45d8 16, NAT-D 0f21 16",
	},
	"openswan-unit/pcap/xfrmmock__xf109-v1rwnatQR1__v1rwnatM1.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 3=0003 1=0005 2=0001 4=0005}], VID 4f45706c, VID afcad713, VID 4a131c81, VID 7d9419a6, VID 90cb8091, VID cd604643, VID 4485152d",
	},
	"openswan-unit/pcap/xfrmmock__xf109-v1rwnatQR1__v1rwnatM2.pcap": {
		"1: 2, KE ffbc 192, NONCE b5ce 16, NAT-D 0705 16, NAT-D 713d 16",
	},
	"openswan-unit/pcap/xfrmmock__xf109-v1rwnatQR1__v1rwnatM3.pcap": {
		"1: 2 sealed, ID first, 296 bytes",
	},
	"openswan-unit/pcap/xfrmmock__xf109-v1rwnatQR1__v1rwnatQI1.pcap": {
		"1: 32 sealed, HASH first, 320 bytes",
	},
	"openswan-unit/pcap/xfrmmock__xf79-childQR1__parentM2.pcap": {
		"1: 2, KE ffbc 192, NONCE b5ce 16, NAT-D d766 20, NAT-D b4e3 20",
	},
	"tcpdump/isakmp-delete-segfault.pcap": {
		"1: the header says 1126274970 bytes, the datagram has 138",
	},
	"tcpdump/isakmp-identification-segfault.pcap": {
		"1: 2, ID 2 0 0 " + strings.Repeat("00", 248) + "",
	},
	"tcpdump/isakmp-pointer-loop.pcap": {
		"1: the header says 0 bytes, the datagram has 30",
	},
	"tcpdump/isakmp4500.pcap": {
		"3: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005} {1 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0005} {2 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0002} {3 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0002}], VID 4f456b52, VID afcad713, VID 4a131c81, VID 7d9419a6, VID cd604643, VID 4485152d",
		"4: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005}], VID 4f456b52, VID afcad713, VID 4a131c81",
		"5: 2, KE b7db 192, NONCE 66d6 16, NAT-D 6efe 16, NAT-D 44f5 16",
		"6: 2, KE e79a 192, NONCE 6c7e 16, NAT-D 3993 16, NAT-D 6efe 16",
		"7: 2 sealed, ID first, 296 bytes",
		"8: 2 sealed, ID first, 272 bytes",
		"9: 32 sealed, HASH first, 400 bytes",
		"10: 32 sealed, HASH first, 320 bytes",
		"11: 32 sealed, HASH first, 24 bytes",
		"15: 32 sealed, HASH first, 320 bytes",
		"16: 32 sealed, HASH first, 24 bytes",
		"20: 32 sealed, HASH first, 320 bytes",
		"21: 32 sealed, HASH first, 24 bytes",
		"30: 32 sealed, HASH first, 320 bytes",
		"35: 5 sealed, HASH first, 48 bytes",
	},
	"suricata-verify/ikev1-duplicate-proposals.pcap": {
		"1: 2, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 12=00015180 4=0002 3=0001 11=0001 12=0000ffff}], VID 4a131c81, VID 439b59f8, VID 7d9419a6, VID 90cb8091",
	},
	"libreswan/pcap/01-isakmp-broadcast.pcap": {
		"1: 2, VID 4f454079, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005} {1 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0005} {2 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0002} {3 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0002}]",
	},
	"libreswan/pcap/01-isakmp-vid-first-resp.pcap": {
		"1: 2, VID 00000000, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005}]",
	},
	"libreswan/pcap/01-isakmp-vid-first.pcap": {
		"1: 2, VID 4f454079, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005} {1 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0005} {2 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0002} {3 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0002}]",
	},
	"libreswan/pcap/01-isakmp-vid-second-resp.pcap": {
		"1: 2, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005}], VID 4f454079",
	},
	"libreswan/pcap/02-isakmp-vid-first.pcap": {
		"1: 2, VID 4f454079, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005} {1 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0005} {2 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0002} {3 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0002}]",
		"2: 2, VID 4f454079, SA 1 1 [0 1 - {0 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0005} {1 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0005} {2 1: 11=0001 12=0e10 1=0005 2=0002 3=0003 4=0002} {3 1: 11=0001 12=0e10 1=0005 2=0001 3=0003 4=0002}]",
	},
	"libreswan/pcap/weirdike-eastwest.pcap-ike.pcap": {
		"1: 243, ?133 0000 4, SA 1 1 [1 1 - {1 1: 1=0007 14=0080 2=0002 4=0000 11=0001 12=00007080} {2 1: 1=0005 2=0002 4=0000 11=0001 12=00007080}], ?135 0002 4, NONCE fd9c 48, VID 1e2b5169, VID 4a131c81, VID 4048b7d5, VID fb1de3cd, VID 26244d38, NAT-D d346 20, NAT-D ab54 20",
	},
}

// datagrams are the datagrams of IKE in a capture, by the number of the frame, without the non-ESP marker.
func datagrams(t *testing.T, name string) (frames []int, all [][]byte) {
	t.Helper()
	r, err := pcapgo.NewReader(bytes.NewReader(vectors.Read(t, name)))
	if err != nil {
		return nil, nil // pcapng or text: none of them has IKEv1
	}
	for n := 1; ; n++ {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return frames, all
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			continue
		}
		b := udp.Payload
		if udp.SrcPort == 4500 || udp.DstPort == 4500 {
			if b, ok = bytes.CutPrefix(b, make([]byte, 4)); !ok {
				continue
			}
		} else if udp.SrcPort != 500 && udp.DstPort != 500 {
			continue
		}
		frames, all = append(frames, n), append(all, b)
	}
}

func TestCaptures(t *testing.T) {
	seen := map[string]bool{}
	for _, pattern := range []string{
		"arkime/*", "wireshark-wiki/*.pcap*", "corelight-zeek-ipsec/*.*cap", "openswan-unit/pcap/*", "tcpdump/*.pcap*",
		"scapy/*", "suricata-verify/*.pcap", "ndpi/*", "libreswan/pcap/*",
	} {
		for _, name := range vectors.Glob(t, pattern) {
			var got []string
			frames, all := datagrams(t, name)
			for i, b := range all {
				h, err := message.ParseHeader(b)
				if err == nil && h.Major() == 2 || len(b) < message.HeaderLen {
					continue
				}
				got = append(got, fmt.Sprintf("%d: %s", frames[i], describe(t, b)))
			}
			if want := captured[name]; strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			seen[name] = true
		}
	}
	for name := range captured {
		if !seen[name] {
			t.Errorf("%s was not read", name)
		}
	}
}

// describe is a message in a line. What can be read is also written again as it was.
func describe(t *testing.T, b []byte) string {
	m, err := Parse(b)
	if err != nil {
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%v is no syntax error", err)
		}
		return syntax.Reason
	}
	if m.Sealed != nil {
		if again := AppendSealed(nil, m.Header, m.Next, m.Sealed); !bytes.Equal(again, b) {
			t.Errorf("%x was written as %x", b, again)
		}
		return fmt.Sprintf("%d sealed, %s first, %d bytes", m.Exchange, m.Next, len(m.Sealed))
	}
	if again := Append(nil, m.Header, m.Payloads); m.Odd == (Odd{}) && !bytes.Equal(again, b) {
		t.Errorf("%x was written as %x", b, again)
	}
	out := fmt.Sprint(uint8(m.Exchange))
	for i, p := range m.Payloads {
		out += ", "
		name, _, _ := strings.Cut(p.Type().String(), " ")
		switch p := p.(type) {
		case *SA:
			out += fmt.Sprintf("SA %d %d", p.DOI, p.Situation)
			for _, q := range p.Proposals {
				out += fmt.Sprintf(" [%d %d %s", q.Number, q.Protocol, hexOr(q.SPI))
				for _, tr := range q.Transforms {
					out += fmt.Sprintf(" {%d %d:", tr.Number, tr.ID)
					for _, a := range tr.Attributes {
						out += fmt.Sprintf(" %d=%x", a.Type, a.Value)
					}
					out += "}"
				}
				out += "]"
			}
		case *ID:
			out += fmt.Sprintf("ID %d %d %d %x", p.IDType, p.Protocol, p.Port, p.Data)
		case *Notify:
			out += fmt.Sprintf("N %d %d %d %s %s", p.DOI, p.Protocol, p.Kind, hexOr(p.SPI), hexOr(p.Data))
		case *VendorID:
			out += fmt.Sprintf("VID %x", p.Data[:4])
		case *Unknown:
			out += fmt.Sprintf("?%d %x %d", p.T, p.Body[:2], len(p.Body))
		default:
			out += fmt.Sprintf("%s %x %d", name, m.Body(i)[:2], len(m.Body(i)))
		}
	}
	return out
}

func hexOr(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return fmt.Sprintf("%x", b)
}

// What the attributes and the vendor IDs of some captures mean.
func TestCapturesMean(t *testing.T) {
	first := func(name string, frame int) *Message {
		t.Helper()
		frames, all := datagrams(t, name)
		for i, n := range frames {
			if n != frame {
				continue
			}
			m, err := Parse(all[i])
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		t.Fatalf("%s has no frame %d", name, frame)
		return nil
	}
	for _, c := range []struct {
		name    string
		frame   int
		want    []Phase1
		vendors []Vendor
	}{
		{"arkime/IKEv1.pcap", 1, []Phase1{{Encryption: 7, KeyBits: 256, Auth: AuthPreShared, Hash: 6, Group: 20, Life: Lifetime{Seconds: 28800}}},
			[]Vendor{VendorDPD, VendorUnknown}},
		{"arkime/IKEv1.pcap", 2, []Phase1{{Encryption: 7, KeyBits: 256, Auth: AuthPreShared, Hash: 6, Group: 20, Life: Lifetime{Seconds: 28800}}},
			[]Vendor{VendorDPD, VendorFragmentation, VendorFragmentation, VendorUnknown}},
		{"corelight-zeek-ipsec/ipsec-ikev1-isakmp-aggressive-mode.pcap", 2,
			[]Phase1{{Encryption: 7, KeyBits: 128, Hash: 2, Group: 2, Auth: AuthPreShared, Life: Lifetime{Seconds: 86400}}},
			[]Vendor{VendorUnity, VendorDPD, VendorUnknown, VendorXAuth, VendorNATT}},
		{"corelight-zeek-ipsec/ipsec.cap", 1, []Phase1{{Encryption: 5, Hash: 2, Auth: AuthPreShared, Group: 2, Life: Lifetime{Seconds: 7800}}},
			[]Vendor{VendorStrongSwan, VendorUnity, VendorXAuth, VendorDPD, VendorNATT, VendorNATTDraft03, VendorNATTDraft02, VendorNATTDraft02LF, VendorNATTDraft00}},
		{"tcpdump/isakmp4500.pcap", 3, []Phase1{
			{Encryption: 5, Hash: 1, Auth: AuthRSASignatures, Group: 5, Life: Lifetime{Seconds: 3600}},
			{Encryption: 5, Hash: 2, Auth: AuthRSASignatures, Group: 5, Life: Lifetime{Seconds: 3600}},
			{Encryption: 5, Hash: 2, Auth: AuthRSASignatures, Group: 2, Life: Lifetime{Seconds: 3600}},
			{Encryption: 5, Hash: 1, Auth: AuthRSASignatures, Group: 2, Life: Lifetime{Seconds: 3600}},
		}, []Vendor{VendorUnknown, VendorDPD, VendorNATT, VendorNATTDraft03, VendorNATTDraft02, VendorNATTDraft00}},
		// A duration that belongs to no type.
		{"suricata-verify/ikev1-duplicate-proposals.pcap", 1,
			[]Phase1{{Encryption: 7, KeyBits: 128, Hash: 2, Group: 2, Auth: AuthPreShared, Life: Lifetime{Seconds: 65535}, Strange: true}},
			[]Vendor{VendorNATT, VendorUnknown, VendorNATTDraft03, VendorNATTDraft02LF}},
	} {
		m := first(c.name, c.frame)
		var got []Phase1
		var kinds []Vendor
		for _, p := range m.Payloads {
			switch p := p.(type) {
			case *SA:
				for _, tr := range p.Proposals[0].Transforms {
					got = append(got, ReadPhase1(tr.Attributes))
				}
			case *VendorID:
				kinds = append(kinds, IdentifyVendor(p.Data))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || fmt.Sprint(kinds) != fmt.Sprint(c.vendors) {
			t.Errorf("%s, frame %d: %+v, %v; want %+v, %v", c.name, c.frame, got, kinds, c.want, c.vendors)
		}
	}
}
