package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"culvert/config"
	"culvert/internal/operate/control"
)

// spiValue is an SPI on the command line: decimal, or hexadecimal with 0x.
type spiValue uint32

func (v *spiValue) UnmarshalText(text []byte) error {
	n, err := control.ParseSPI(string(text))
	*v = spiValue(n)
	return err
}

// lifeValue is a duration in the syntax of the configuration.
type lifeValue time.Duration

func (v *lifeValue) UnmarshalText(text []byte) error {
	d, ok := config.ParseDuration(string(text))
	if !ok {
		return fmt.Errorf("%q is not a duration: write one such as 8h or 1d2h", text)
	}
	*v = lifeValue(d)
	return nil
}

type saAddCmd struct {
	Policy int `required:"" placeholder:"N" help:"Number of the policy in policy print. It must have sa-src-address and sa-dst-address, and no peer."`

	SPIIn         spiValue `name:"spi-in" placeholder:"SPI" help:"ESP: SPI of the packets from the peer."`
	SPIOut        spiValue `name:"spi-out" placeholder:"SPI" help:"ESP: SPI of the packets to the peer."`
	EncAlgorithm  string   `placeholder:"NAME" help:"ESP: an algorithm of enc-algorithms in [[proposal]], such as aes-256-gcm."`
	EncKeyIn      string   `placeholder:"KEY" help:"ESP: hexadecimal, or @FILE; for GCM, CCM, GMAC, CTR and ChaCha20 followed by the salt."`
	EncKeyOut     string   `placeholder:"KEY" help:"ESP: the same for packets to the peer."`
	AuthAlgorithm string   `placeholder:"NAME" help:"ESP: md5, sha1, sha256, sha384, sha512; none with GCM, CCM, GMAC, ChaCha20."`
	AuthKeyIn     string   `placeholder:"KEY" help:"ESP: hexadecimal, or @FILE."`
	AuthKeyOut    string   `placeholder:"KEY" help:"ESP: the same for packets to the peer."`

	AHSPIIn     spiValue `name:"ah-spi-in" placeholder:"SPI" help:"AH: SPI of the packets from the peer."`
	AHSPIOut    spiValue `name:"ah-spi-out" placeholder:"SPI" help:"AH: SPI of the packets to the peer."`
	AHAlgorithm string   `name:"ah-algorithm" placeholder:"NAME" help:"AH: md5, sha1, sha256, sha384, sha512."`
	AHKeyIn     string   `name:"ah-key-in" placeholder:"KEY" help:"AH: hexadecimal, or @FILE."`
	AHKeyOut    string   `name:"ah-key-out" placeholder:"KEY" help:"AH: the same for packets to the peer."`

	UDP          bool      `name:"udp" help:"Send ESP in UDP, from the NAT-T port to port 4500."`
	ESN          bool      `name:"esn" help:"Use extended sequence numbers."`
	ReplayWindow int       `default:"128" placeholder:"N" help:"Replay window, 32 to 4096 packets (default 128; 0: no replay check)."`
	Lifetime     lifeValue `placeholder:"TIME" help:"Lifetime of the SA, such as 8h or 1d (default: unlimited)."`
	Lifebytes    uint64    `placeholder:"N" help:"Lifetime in bytes, for each direction (default: unlimited)."`
}

func (saAddCmd) Help() string {
	return `Adds the SAs of both directions to a policy without a peer. The policy says which traffic is protected, between which addresses (sa-src-address, sa-dst-address), in which mode and with which protocols. AH and ESP together need two pairs of SPIs and keys. The other end needs the same SAs with in and out exchanged.

Every user of this computer can read keys on a command line. Write @FILE instead: a file with the key in hexadecimal. SAs that were added by hand are gone after a restart. Never use a key of GCM, CCM, GMAC, CTR or ChaCha20 again, not even after a restart: make a new one.

Example:

    culvert sa add --policy 1 --spi-in 0x1001 --spi-out 0x1002 --enc-algorithm aes-128-cbc --auth-algorithm sha256 \
        --enc-key-in @enc.in --enc-key-out @enc.out --auth-key-in @auth.in --auth-key-out @auth.out
    # at the other end, 10.9.0.2, with the Linux kernel (one of two states; two policies are needed too):
    ip xfrm state add src 10.9.0.2 dst 10.9.0.1 proto esp spi 0x1001 mode tunnel enc 'cbc(aes)' 0x… auth-trunc 'hmac(sha256)' 0x… 128`
}

func (c *saAddCmd) Run(s *session) error {
	sa := control.ManualSA{Policy: c.Policy, UDP: c.UDP, ESN: c.ESN, ReplayWindow: c.ReplayWindow, Lifetime: time.Duration(c.Lifetime), Lifebytes: c.Lifebytes}
	if c.SPIIn|c.SPIOut != 0 {
		sa.ESP = &control.ManualKeys{SPIIn: uint32(c.SPIIn), SPIOut: uint32(c.SPIOut),
			EncAlgorithm: c.EncAlgorithm, EncKeyIn: c.EncKeyIn, EncKeyOut: c.EncKeyOut,
			AuthAlgorithm: c.AuthAlgorithm, AuthKeyIn: c.AuthKeyIn, AuthKeyOut: c.AuthKeyOut}
	}
	if c.AHSPIIn|c.AHSPIOut != 0 {
		sa.AH = &control.ManualKeys{SPIIn: uint32(c.AHSPIIn), SPIOut: uint32(c.AHSPIOut),
			AuthAlgorithm: c.AHAlgorithm, AuthKeyIn: c.AHKeyIn, AuthKeyOut: c.AHKeyOut}
	}
	if sa.ESP == nil && sa.AH == nil {
		return errors.New("write the SPIs of the SA: --spi-in and --spi-out for ESP, --ah-spi-in and --ah-spi-out for AH")
	}
	for _, k := range []*control.ManualKeys{sa.ESP, sa.AH} {
		if k == nil {
			continue
		}
		for _, key := range []*string{&k.EncKeyIn, &k.EncKeyOut, &k.AuthKeyIn, &k.AuthKeyOut} {
			if err := readKey(key); err != nil {
				return err
			}
		}
	}
	warnings, err := s.client().AddSA(s.ctx, sa)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(s.stderr, "warning:", w)
	}
	fmt.Fprintln(s.stdout, "added")
	return nil
}

// readKey replaces @FILE by the content of the file.
func readKey(key *string) error {
	path, ok := strings.CutPrefix(*key, "@")
	if !ok {
		return nil
	}
	text, err := os.ReadFile(path)
	*key = strings.TrimSpace(string(text))
	return err
}

type saDeleteCmd struct {
	SPI spiValue `arg:"" name:"SPI" help:"The inbound SPI of ESP or AH."`
}

func (saDeleteCmd) Help() string {
	return `Removes both directions of an SA that was added by hand. Of AH and ESP together, both are removed.

Example:

    culvert sa delete 0x1001`
}

func (c *saDeleteCmd) Run(s *session) error {
	if err := s.client().DeleteSA(s.ctx, uint32(c.SPI)); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, "deleted")
	return nil
}
