package isakmp

import (
	"fmt"
	"strings"
	"testing"

	"culvert/ike/message"
)

// inTurn checks that numbers of a registry are first, first+1 and so on.
func inTurn[T ~uint8 | ~uint16 | ~uint32](t *testing.T, registry string, first T, numbers ...T) {
	t.Helper()
	for i, n := range numbers {
		if want := first + T(i); n != want {
			t.Errorf("%s: a name has the number %d, not %d", registry, n, want)
		}
	}
}

// The numbers are those of the RFCs, of the drafts and of IANA's registries. Most never reach a
// message in another test, but a peer sends them or has to understand them.
func TestNumbers(t *testing.T) {
	inTurn(t, "payloads, RFC 2408 §3.1", 0, NoNext, TypeSA)
	inTurn(t, "payloads, RFC 2408 §3.1", 4, TypeKE, TypeID, TypeCert, TypeCertReq, TypeHash, TypeSig, TypeNonce, TypeNotify, TypeDelete, TypeVendorID, TypeAttributes)
	inTurn(t, "payloads, RFC 3947 §3.2 and §5.2", 20, TypeNATD, TypeNATOA)
	inTurn(t, "payloads, draft-ietf-ipsec-nat-t-ike-03, Cisco", 130, TypeNATDDraft, TypeNATOADraft, TypeFragment)
	inTurn[uint8](t, "proposals and transforms, RFC 2408 §3.1", 2, moreProposals, moreTransforms)

	inTurn(t, "exchanges, RFC 2408 §3.1", 1, ExchangeBase, ExchangeMain)
	inTurn(t, "exchanges, RFC 2408 §3.1", 4, ExchangeAggressive, ExchangeInformational, ExchangeTransaction)
	inTurn(t, "exchanges, RFC 2409 Appendix A", 32, ExchangeQuick)
	inTurn[message.Flags](t, "flags, RFC 2408 §3.1", 1, FlagEncryption, FlagCommit)
	inTurn[message.Flags](t, "flags, RFC 2408 §3.1", 4, FlagAuthOnly)
	inTurn[uint8](t, "version, RFC 2408 §3.1", 0x10, Version)

	inTurn(t, "domains of interpretation, RFC 2407 §4.1", 0, DOIISAKMP, DOIIPsec)
	inTurn(t, "situations, RFC 2407 §4.2.1", 1, SituationIdentityOnly)
	inTurn(t, "protocols, RFC 2407 §4.4.1", 1, ProtoISAKMP, ProtoAH, ProtoESP, ProtoIPComp)
	inTurn(t, "transforms of phase 1, RFC 2407 §4.4.2", 1, KeyIKE)
	inTurn(t, "identities, RFC 2407 §4.6.2.1", 1, IDIPv4, IDFQDN, IDUserFQDN, IDIPv4Subnet, IDIPv6, IDIPv6Subnet, IDIPv4Range, IDIPv6Range, IDDERDN, IDDERGN, IDKeyID)
	inTurn(t, "certificates, RFC 2408 §3.9", 1, CertPKCS7)
	inTurn(t, "certificates, RFC 2408 §3.9", 4, CertX509, CertKeyEx)
	inTurn(t, "certificates, RFC 2408 §3.9", 7, CertCRL)

	inTurn(t, "errors, RFC 2408 §3.14.1", 1,
		NotifyInvalidPayloadType, NotifyDOINotSupported, NotifySituationNotSupported, NotifyInvalidCookie, NotifyInvalidMajorVersion,
		NotifyInvalidMinorVersion, NotifyInvalidExchangeType, NotifyInvalidFlags, NotifyInvalidMessageID, NotifyInvalidProtocolID,
		NotifyInvalidSPI, NotifyInvalidTransformID, NotifyAttributesNotSupported, NotifyNoProposalChosen, NotifyBadProposalSyntax,
		NotifyPayloadMalformed, NotifyInvalidKeyInformation, NotifyInvalidIDInformation, NotifyInvalidCertEncoding, NotifyInvalidCertificate,
		NotifyCertTypeUnsupported, NotifyInvalidCertAuthority, NotifyInvalidHashInformation, NotifyAuthenticationFailed, NotifyInvalidSignature,
		NotifyAddressNotification, NotifySALifetime, NotifyCertificateUnavailable, NotifyUnsupportedExchange, NotifyUnequalPayloadLengths)
	inTurn(t, "statuses, RFC 2408 §3.14.1", 16384, NotifyConnected)
	inTurn(t, "statuses, RFC 2407 §4.6.3", 24576, NotifyResponderLifetime, NotifyReplayStatus, NotifyInitialContact)
	inTurn(t, "statuses, RFC 3706 §5.3", 36136, NotifyRUThere, NotifyRUThereAck)
	inTurn(t, "statuses, Cisco", 40501, NotifyUnityLoadBalance)

	inTurn(t, "phase 1, RFC 2409 Appendix A", 1, p1Encryption, p1Hash, p1Auth, p1Group)
	inTurn(t, "phase 1, RFC 2409 Appendix A", 11, p1LifeType, p1LifeDuration)
	inTurn(t, "phase 1, RFC 2409 Appendix A", 14, p1KeyLength)
	inTurn(t, "phase 2, RFC 2407 §4.5", 1, p2LifeType, p2LifeDuration, p2Group, p2Encapsulation, p2Auth, p2KeyLength)
	inTurn(t, "phase 2, RFC 4304 §2", 11, p2ESN)
	inTurn[uint16](t, "life types, RFC 2407 §4.5", 1, lifeSeconds, lifeKilobytes)
	inTurn(t, "methods, RFC 2409 Appendix A", 1, AuthPreShared, AuthDSSSignatures, AuthRSASignatures, AuthRSAEncryption, AuthRSARevised)
	inTurn(t, "methods, RFC 4754", 9, AuthECDSA256, AuthECDSA384, AuthECDSA521)
	inTurn(t, "methods, draft-zegman-ike-hybrid-auth-01 §3.2.1", 64221, AuthHybridInitRSA, AuthHybridRespRSA, AuthHybridInitDSS, AuthHybridRespDSS)
	inTurn(t, "methods, draft-beaulieu-ike-xauth-02 §7.2", 65001,
		AuthXAuthInitPreShared, AuthXAuthRespPreShared, AuthXAuthInitDSS, AuthXAuthRespDSS, AuthXAuthInitRSA, AuthXAuthRespRSA)
	inTurn(t, "encapsulation, RFC 2407 §4.5 and RFC 3947 §5.1", 1, EncapTunnel, EncapTransport, EncapUDPTunnel, EncapUDPTransport)
	inTurn(t, "encapsulation, draft-ietf-ipsec-nat-t-ike-03 §5.1", 61443, EncapUDPTunnelDraft, EncapUDPTransportDraft)

	inTurn(t, "mode config, draft-dukes-ike-mode-cfg-02 §3.2", 1, CfgRequest, CfgReply, CfgSet, CfgAck)
	inTurn(t, "XAuth, draft-beaulieu-ike-xauth-02 §6", 16520,
		XAuthType, XAuthUserName, XAuthPassword, XAuthPasscode, XAuthMessage, XAuthChallenge, XAuthDomain, XAuthStatus, XAuthNextPIN, XAuthAnswer)
	inTurn(t, "types of XAuth, draft-beaulieu-ike-xauth-02 §6.3", 0, XAuthGeneric, XAuthRADIUSCHAP, XAuthOTP, XAuthSKey)
	inTurn(t, "Unity, Cisco", 28672, UnityBanner, UnitySavePassword, UnityDefaultDomain, UnitySplitDNS, UnitySplitInclude, UnityNATTPort,
		UnityLocalLAN, UnityPFS, UnityFirewall, UnityBackupServers, UnityDDNSHostname)
}

// As many are read as the bound says, and not one more; what is written is cut there.
func TestBoundsInNumbers(t *testing.T) {
	const proposal, lastProposal = "02 00 0008 01 01 00 00", "00 00 0008 01 01 00 00"
	for what, c := range map[string]struct {
		most  int
		typ   PayloadType
		chain func(n int) string // the body, or the payloads, of n
	}{
		"proposals":  {64, TypeSA, func(n int) string { return "00000001 00000001" + strings.Repeat(proposal, n-1) + lastProposal }},
		"attributes": {256, TypeAttributes, func(n int) string { return "01000000" + strings.Repeat("0001 0000", n) }},
		"SPIs":       {1024, TypeDelete, func(n int) string { return fmt.Sprintf("00000001 03 01 %04x", n) + strings.Repeat("01", n) }},
	} {
		for n, fits := range map[int]bool{c.most: true, c.most + 1: false} {
			if _, err := parsePayload(c.typ, unhex(t, c.chain(n)), &Odd{}); (err == nil) != fits {
				t.Errorf("%d %s: %v", n, what, err)
			}
		}
	}
	for n, fits := range map[int]bool{64: true, 65: false} {
		chain := strings.Repeat("0d 00 0005 01", n-1) + "00 00 0005 01"
		if _, err := ParsePayloads(TypeVendorID, unhex(t, chain)); (err == nil) != fits {
			t.Errorf("%d payloads: %v", n, err)
		}
	}
	written := (&SA{DOI: DOIIPsec, Situation: SituationIdentityOnly, Proposals: []Proposal{{Transforms: make([]Transform, 256)}}}).AppendBody(nil)
	if p, err := parsePayload(TypeSA, written, &Odd{}); err != nil || len(p.(*SA).Proposals[0].Transforms) != 255 {
		t.Errorf("256 transforms are written as %x, %v", written, err)
	}
}
