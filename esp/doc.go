// Package esp is the Encapsulating Security Payload (RFC 4303): views of its
// header, and the transform that seals a payload into an ESP packet and opens
// one, in place. Which sequence number comes next, and which may still come, is
// the SA's business (sad); what the payload is, IP packet or transport payload,
// the data path's.
//
//	 0                   1                   2                   3
//	+---------------------------------------------------------------+
//	|              Security Parameters Index (SPI)                  |
//	+---------------------------------------------------------------+
//	|          Sequence number, its low 32 bits                     |
//	+---------------------------------------------------------------+
//	|          IV: 8 bytes (AEAD, CTR), one block (CBC), none (null) |
//	+---------------------------------------------------------------+ -
//	|          payload                                              | |
//	+               +-----------------------------------------------+ encrypted
//	|               |  padding 1, 2, 3, …                           | |
//	+---------------+---------------+---------------+---------------+ |
//	|                               |  pad length   |  next header  | |
//	+---------------------------------------------------------------+ -
//	|          ICV                                                  |
//	+---------------------------------------------------------------+
package esp
