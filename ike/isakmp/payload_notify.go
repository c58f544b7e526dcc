package isakmp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Notify is the Notification payload (RFC 2408 §3.14).
//
//	+---------------------------------------------------------------+
//	|              Domain of Interpretation  (DOI)                  |
//	+---------------+---------------+-------------------------------+
//	|  Protocol-ID  |   SPI Size    |      Notify Message Type      |
//	+---------------+---------------+-------------------------------+
//	~                Security Parameter Index (SPI)                 ~
//	+---------------------------------------------------------------+
//	~                       Notification Data                       ~
//	+---------------------------------------------------------------+
type Notify struct {
	DOI      uint32
	Protocol uint8
	SPI      []byte // of phase 1, both cookies or none
	Kind     NotifyType
	Data     []byte
}

func (p *Notify) Type() PayloadType { return TypeNotify }

func (p *Notify) AppendBody(b []byte) []byte {
	spi := bounded(p.SPI, 255)
	b = binary.BigEndian.AppendUint32(b, p.DOI)
	b = append(b, p.Protocol, byte(len(spi)))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Kind))
	return append(append(b, spi...), p.Data...)
}

func parseNotify(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) {
	p := &Notify{}
	var spiLen uint8
	if !s.ReadUint32(&p.DOI) || !s.ReadUint8(&p.Protocol) || !s.ReadUint8(&spiLen) || !s.ReadUint16((*uint16)(&p.Kind)) ||
		!take(&s, &p.SPI, int(spiLen)) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}

// NotifyType is the type of a notification (RFC 2408 §3.14.1).
type NotifyType uint16

// Errors, and from 16384 on the statuses.
const (
	NotifyInvalidPayloadType     NotifyType = 1
	NotifyDOINotSupported        NotifyType = 2
	NotifySituationNotSupported  NotifyType = 3
	NotifyInvalidCookie          NotifyType = 4
	NotifyInvalidMajorVersion    NotifyType = 5
	NotifyInvalidMinorVersion    NotifyType = 6
	NotifyInvalidExchangeType    NotifyType = 7
	NotifyInvalidFlags           NotifyType = 8
	NotifyInvalidMessageID       NotifyType = 9
	NotifyInvalidProtocolID      NotifyType = 10
	NotifyInvalidSPI             NotifyType = 11
	NotifyInvalidTransformID     NotifyType = 12
	NotifyAttributesNotSupported NotifyType = 13
	NotifyNoProposalChosen       NotifyType = 14
	NotifyBadProposalSyntax      NotifyType = 15
	NotifyPayloadMalformed       NotifyType = 16
	NotifyInvalidKeyInformation  NotifyType = 17
	NotifyInvalidIDInformation   NotifyType = 18
	NotifyInvalidCertEncoding    NotifyType = 19
	NotifyInvalidCertificate     NotifyType = 20
	NotifyCertTypeUnsupported    NotifyType = 21
	NotifyInvalidCertAuthority   NotifyType = 22
	NotifyInvalidHashInformation NotifyType = 23
	NotifyAuthenticationFailed   NotifyType = 24
	NotifyInvalidSignature       NotifyType = 25
	NotifyAddressNotification    NotifyType = 26
	NotifySALifetime             NotifyType = 27
	NotifyCertificateUnavailable NotifyType = 28
	NotifyUnsupportedExchange    NotifyType = 29
	NotifyUnequalPayloadLengths  NotifyType = 30

	NotifyConnected         NotifyType = 16384
	NotifyResponderLifetime NotifyType = 24576 // RFC 2407 §4.6.3
	NotifyReplayStatus      NotifyType = 24577 // RFC 2407 §4.6.3
	NotifyInitialContact    NotifyType = 24578 // RFC 2407 §4.6.3
	NotifyRUThere           NotifyType = 36136 // RFC 3706 §5.3
	NotifyRUThereAck        NotifyType = 36137 // RFC 3706 §5.3
	NotifyUnityLoadBalance  NotifyType = 40501 // Cisco: go to another gateway
)

var notifyNames = map[NotifyType]string{
	NotifyInvalidPayloadType:     "INVALID-PAYLOAD-TYPE",
	NotifyDOINotSupported:        "DOI-NOT-SUPPORTED",
	NotifySituationNotSupported:  "SITUATION-NOT-SUPPORTED",
	NotifyInvalidCookie:          "INVALID-COOKIE",
	NotifyInvalidMajorVersion:    "INVALID-MAJOR-VERSION",
	NotifyInvalidMinorVersion:    "INVALID-MINOR-VERSION",
	NotifyInvalidExchangeType:    "INVALID-EXCHANGE-TYPE",
	NotifyInvalidFlags:           "INVALID-FLAGS",
	NotifyInvalidMessageID:       "INVALID-MESSAGE-ID",
	NotifyInvalidProtocolID:      "INVALID-PROTOCOL-ID",
	NotifyInvalidSPI:             "INVALID-SPI",
	NotifyInvalidTransformID:     "INVALID-TRANSFORM-ID",
	NotifyAttributesNotSupported: "ATTRIBUTES-NOT-SUPPORTED",
	NotifyNoProposalChosen:       "NO-PROPOSAL-CHOSEN",
	NotifyBadProposalSyntax:      "BAD-PROPOSAL-SYNTAX",
	NotifyPayloadMalformed:       "PAYLOAD-MALFORMED",
	NotifyInvalidKeyInformation:  "INVALID-KEY-INFORMATION",
	NotifyInvalidIDInformation:   "INVALID-ID-INFORMATION",
	NotifyInvalidCertEncoding:    "INVALID-CERT-ENCODING",
	NotifyInvalidCertificate:     "INVALID-CERTIFICATE",
	NotifyCertTypeUnsupported:    "CERT-TYPE-UNSUPPORTED",
	NotifyInvalidCertAuthority:   "INVALID-CERT-AUTHORITY",
	NotifyInvalidHashInformation: "INVALID-HASH-INFORMATION",
	NotifyAuthenticationFailed:   "AUTHENTICATION-FAILED",
	NotifyInvalidSignature:       "INVALID-SIGNATURE",
	NotifyAddressNotification:    "ADDRESS-NOTIFICATION",
	NotifySALifetime:             "NOTIFY-SA-LIFETIME",
	NotifyCertificateUnavailable: "CERTIFICATE-UNAVAILABLE",
	NotifyUnsupportedExchange:    "UNSUPPORTED-EXCHANGE-TYPE",
	NotifyUnequalPayloadLengths:  "UNEQUAL-PAYLOAD-LENGTHS",
	NotifyConnected:              "CONNECTED",
	NotifyResponderLifetime:      "RESPONDER-LIFETIME",
	NotifyReplayStatus:           "REPLAY-STATUS",
	NotifyInitialContact:         "INITIAL-CONTACT",
	NotifyRUThere:                "R-U-THERE",
	NotifyRUThereAck:             "R-U-THERE-ACK",
	NotifyUnityLoadBalance:       "UNITY-LOAD-BALANCE",
}

func (t NotifyType) String() string {
	if s, ok := notifyNames[t]; ok {
		return s
	}
	return fmt.Sprintf("notify %d", uint16(t))
}

// IsError reports whether the type is an error, those of private use among them.
func (t NotifyType) IsError() bool { return t < 16384 }
