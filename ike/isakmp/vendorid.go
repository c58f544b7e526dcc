package isakmp

import "bytes"

// Vendor is what a vendor ID says.
type Vendor uint8

// The vendors that IdentifyVendor knows. Each is a feature that its sender has, but for the last ones,
// which only name software.
const (
	VendorUnknown              Vendor = iota
	VendorDPD                         // RFC 3706 §5.1
	VendorNATT                        // RFC 3947 §3.1
	VendorNATTDraft03                 // draft-ietf-ipsec-nat-t-ike-03
	VendorNATTDraft02                 // draft-ietf-ipsec-nat-t-ike-02
	VendorNATTDraft02LF               // the same, hashed with a line feed at the end: what most send
	VendorNATTDraft01                 // other rules (port 500 only)
	VendorNATTDraft00                 // the same
	VendorFragmentation               // Cisco and Microsoft
	VendorXAuth                       // draft-beaulieu-ike-xauth-02 §2
	VendorUnity                       // Cisco
	VendorInitialContact              // Windows: the text of INITIAL-CONTACT as a vendor ID
	VendorWindows                     // with the version, four bytes
	VendorNegotiationDiscovery        // Windows
	VendorCGA                         // Windows: cryptographically generated addresses
	VendorAuthIP                      // Windows
	VendorGSSAPI                      // Windows
	VendorStrongSwan
	VendorRacoon
	VendorConcentrator // Cisco VPN 3000
)

// vendors has the bytes of each. What follows them must be short enough: versions and flags.
var vendors = []struct {
	vendor Vendor
	name   string
	bytes  string
	more   int // how many bytes may follow
}{
	// The last two are major and minor version (RFC 3706 §5.1).
	{VendorDPD, "DPD", "\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00", 0},
	{VendorNATT, "RFC 3947", "\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f", 0},
	{VendorNATTDraft03, "draft-ietf-ipsec-nat-t-ike-03", "\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56", 0},
	{VendorNATTDraft02, "draft-ietf-ipsec-nat-t-ike-02", "\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48", 0},
	{VendorNATTDraft02LF, "draft-ietf-ipsec-nat-t-ike-02\\n", "\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f", 0},
	{VendorNATTDraft01, "draft-ietf-ipsec-nat-t-ike-01", "\x16\xf6\xca\x16\xe4\xa4\x06\x6d\x83\x82\x1a\x0f\x0a\xea\xa8\x62", 0},
	{VendorNATTDraft00, "draft-ietf-ipsec-nat-t-ike-00", "\x44\x85\x15\x2d\x18\xb6\xbb\xcd\x0b\xe8\xa8\x46\x95\x79\xdd\xcc", 0},
	// Cisco puts four bytes of flags behind it.
	{VendorFragmentation, "FRAGMENTATION", "\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3", 4},
	{VendorXAuth, "XAuth", "\x09\x00\x26\x89\xdf\xd6\xb7\x12", 0},
	{VendorUnity, "Cisco Unity", "\x12\xf5\xf2\x8c\x45\x71\x68\xa9\x70\x2d\x9f\xe2\x74\xcc", 2},
	{VendorInitialContact, "Vid-Initial-Contact", "\x26\x24\x4d\x38\xed\xdb\x61\xb3\x17\x2a\x36\xe3\xd0\xcf\xb8\x19", 0},
	{VendorWindows, "MS NT5 ISAKMPOAKLEY", "\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61", 4},
	{VendorNegotiationDiscovery, "MS-Negotiation Discovery Capable", "\xfb\x1d\xe3\xcd\xf3\x41\xb7\xea\x16\xb7\xe5\xbe\x08\x55\xf1\x20", 0},
	{VendorCGA, "IKE CGA version 1", "\xe3\xa5\x96\x6a\x76\x37\x9f\xe7\x07\x22\x82\x31\xe5\xce\x86\x52", 0},
	{VendorAuthIP, "MS-MamieExists", "\x21\x4c\xa4\xfa\xff\xa7\xf3\x2d\x67\x48\xe5\x30\x33\x95\xae\x83", 0},
	{VendorGSSAPI, "GSSAPI", "\x62\x1b\x04\xbb\x09\x88\x2a\xc1\xe1\x59\x35\xfe\xfa\x24\xae\xee", 4},
	{VendorStrongSwan, "strongSwan", "\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb", 0},
	{VendorRacoon, "KAME/racoon", "\x70\x03\xcb\xc1\x09\x7d\xbe\x9c\x26\x00\xba\x69\x83\xbc\x8b\x35", 0},
	{VendorConcentrator, "Cisco VPN concentrator", "\x1f\x07\xf7\x0e\xaa\x65\x14\xd3\xb0\xfa\x96\x54\x2a\x50", 2},
}

// versions are what we send behind the bytes: Unity's version as Cisco's clients send it, and the flags of fragmentation as
// most do, without which some peers do not know it (racoon, strongSwan).
var versions = map[Vendor]string{VendorUnity: "\x01\x00", VendorFragmentation: "\x80\x00\x00\x00"}

// IdentifyVendor says which vendor ID data is; VendorUnknown if none that is known.
func IdentifyVendor(data []byte) Vendor {
	for _, v := range vendors {
		if bytes.HasPrefix(data, []byte(v.bytes)) && len(data) <= len(v.bytes)+v.more {
			return v.vendor
		}
	}
	return VendorUnknown
}

// Bytes is the data of the vendor ID as we send it; nil if there is none.
func (v Vendor) Bytes() []byte {
	for _, row := range vendors {
		if row.vendor != v {
			continue
		}
		return []byte(row.bytes + versions[v])
	}
	return nil
}

func (v Vendor) String() string {
	for _, row := range vendors {
		if row.vendor == v {
			return row.name
		}
	}
	return "unknown vendor ID"
}
