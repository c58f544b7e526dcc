//go:build linux

package interop

// suiteCells: each transform of ESP, from each side, IPv4 and IPv6 inside.
func suiteCells() []cell {
	var cs []cell
	for _, s := range []espSuite{
		{aes128gcm, sha256, noPFS},
		{aes192gcm, sha256, noPFS},
		{aes256gcm, sha256, noPFS},
		{aes128, sha1, noPFS},
		{aes192, sha256, noPFS},
		{aes256, sha256, noPFS},
		{aes256, sha512, noPFS},
	} {
		name := s.encr.esp
		if !s.encr.aead {
			name += "-" + s.hash.name
		}
		cs = append(cs,
			cell{group: "ESP transforms", name: name + "-we-initiate", esp: s},
			cell{group: "ESP transforms", name: name + "-they-initiate", esp: s, theyInitiate: true, silent: true})
		if s.encr == aes256gcm || s.encr == aes128 {
			cs = append(cs,
				cell{group: "ESP transforms", name: name + "-ipv6-we-initiate", esp: s, v6: true},
				cell{group: "ESP transforms", name: name + "-ipv6-they-initiate", esp: s, v6: true, theyInitiate: true})
		}
	}
	return cs
}

// groupCells: each Diffie-Hellman group of IKE with different ciphers, and the
// same group in the rekeying of the CHILD SA, begun by each side in turn.
func groupCells() []cell {
	var cs []cell
	for _, s := range []ikeSuite{
		{aes128, sha1, modp2048},
		{aes256, sha512, modp3072},
		{aes128gcm, sha256, ecp256},
		{aes256gcm, sha512, ecp384},
		{aes192, sha256, x25519},
	} {
		esp := espSuite{aes256gcm, sha256, s.dh}
		cs = append(cs,
			cell{group: "IKE suites, and PFS with the same group", name: s.dh.name + "-we-initiate", ike: s, esp: esp,
				event: both("both sides rekey the CHILD SA in turn", theyRekeyChild, weRekeyChild)},
			cell{group: "IKE suites, and PFS with the same group", name: s.dh.name + "-they-initiate", ike: s, esp: esp, theyInitiate: true,
				event: both("both sides rekey the CHILD SA in turn", weRekeyChild, theyRekeyChild)})
	}
	// The other groups, of which some are slow: once, and rekeyed once.
	for i, s := range []ikeSuite{
		{aes128, sha1, modp768},
		{aes128, sha1, modp1024},
		{aes128, sha1, modp1536},
		{aes256, sha256, modp4096},
		{aes256, sha256, modp6144},
		{aes256, sha256, modp8192},
		{aes256gcm, sha512, ecp521},
	} {
		c := cell{group: "IKE suites, and PFS with the same group", name: s.dh.name + "-we-initiate", ike: s,
			esp: espSuite{aes256gcm, sha256, s.dh}, event: theyRekeyChild}
		if i%2 == 1 {
			c.name, c.theyInitiate, c.event = s.dh.name+"-they-initiate", true, weRekeyChild
		}
		cs = append(cs, c)
	}
	return cs
}

// otherSuiteCells: every other transform of ESP that both have, begun by each side in turn.
func otherSuiteCells() []cell {
	suites := []espSuite{
		{aes128ctr, sha1, noPFS}, {aes192ctr, sha256, noPFS}, {aes256ctr, sha512, noPFS},
		{chacha, sha256, noPFS},
		{aes128, md5, noPFS}, {aes192, sha384, noPFS},
		{camellia128, sha1, noPFS}, {camellia192, sha256, noPFS}, {camellia256, sha512, noPFS},
		{tripleDES, md5, noPFS}, {tripleDES, sha1, noPFS}, {des, md5, noPFS},
		{blowfish, sha1, noPFS}, {twofish, sha256, noPFS},
		{null, md5, noPFS}, {null, sha1, noPFS}, {null, sha256, noPFS}, {null, sha384, noPFS}, {null, sha512, noPFS},
	}
	for _, bits := range []int{128, 192, 256} {
		for _, short := range []encr{shortICV(bits, "gcm", 12), shortICV(bits, "gcm", 8),
			shortICV(bits, "ccm", 16), shortICV(bits, "ccm", 12), shortICV(bits, "ccm", 8)} {
			suites = append(suites, espSuite{short, sha256, noPFS})
		}
	}
	var cs []cell
	for i, s := range suites {
		name := "esp-" + s.encr.esp
		if !s.encr.aead {
			name += "-" + s.hash.name
		}
		c := cell{group: "Other ESP transforms", name: name, esp: s, theyInitiate: i%2 == 1}
		if s.encr == twofish { // a number of the private use range
			c.extra.daemon = "accept_private_algs = yes"
		}
		cs = append(cs, c)
	}
	return cs
}

// cipherCells: every cipher and hash of IKE that both have. Who did not begin
// the IKE SA rekeys it.
func cipherCells() []cell {
	var cs []cell
	for i, s := range []ikeSuite{
		{aes128, sha256, ecp256},
		{aes128, md5, x25519},
		{aes192, sha384, ecp256},
		{aes256, sha384, x25519},
		{aes256, sha1, ecp256},
		{aes128gcm, sha1, x25519},
		{aes192gcm, sha384, ecp256},
		{aes256gcm, md5, x25519},
		{chacha, sha512, ecp256},
		{chacha, sha256, x25519},
		{camellia128, sha1, ecp256},
		{camellia192, sha256, x25519},
		{camellia256, sha512, ecp256},
		{blowfish, sha384, x25519},
		{blowfish, md5, ecp256},
		{tripleDES, sha1, x25519},
		{tripleDES, sha512, ecp256},
		{des, md5, x25519},
	} {
		c := cell{group: "IKE ciphers and hashes", name: "ike-" + s.encr.ike + "-" + s.hash.name, ike: s, event: theyRekeyIKE}
		if i%2 == 1 {
			c.theyInitiate, c.event = true, weRekeyIKE
		}
		cs = append(cs, c)
	}
	const g = "IKE ciphers and hashes"
	// What strongSwan offers unless it is told otherwise; and a PRF of another hash than the integrity.
	standard := cell{group: g, name: "ike-their-default-proposals", theyInitiate: true, extra: extra{connection: "proposals = default\n"}}
	mixed := cell{group: g, name: "ike-prf-of-another-hash", event: weRekeyIKE,
		ike:   ikeSuite{aes256, hash{sha1.name, sha1.integ, sha512.prf}, ecp256},
		extra: extra{profile: "prf-algorithm = \"sha512\"\n", connection: "proposals = aes256-sha1-prfsha512-ecp256\n"}}
	return append(cs, standard, mixed)
}
