package v2

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Tickets by value (RFC 5723 §4.2, appendix A): what a gateway needs to go on
// with an IKE SA travels with its client, sealed under a key that nobody else has:
//
//	version (1) | ID of the key (8) | nonce (12) | AES-256-GCM: state | tag (16)
//
// What stands in clear is authenticated too. The nonce is the ticket's name.

// Bounds on tickets.
const (
	ticketVersion = 2 // 1 did not say where the client first came from
	ticketHead    = 1 + 8 + 12
	maxTicket     = 1024 // bytes: the request with it, which cannot be cut into fragments, fits into one datagram
	maxTicketLife = 24 * time.Hour
	keyLife       = 8 * time.Hour // a key seals for so long; it opens until the last of its tickets has expired
	maxKeys       = 8
	maxSpent      = 1 << 16
)

// ticketName names a ticket: its nonce.
type ticketName [12]byte

// ticket is what a sealed one says.
type ticket struct {
	expires time.Time // whole seconds, as the other times
	proven  time.Time // when the peer proved who it is, by more than a ticket
	until   time.Time // after this its certificate counts no more; zero: none
	origin  [32]byte  // see TicketJar.origin
	peer    string
	id, our core.ID // IDi and IDr: the peer's and ours
	chosen  core.Alternative
	d       secret.Bytes // SK_d
	home    netip.Addr   // see SA.settleHome; not valid: the ID names somebody
}

// append writes the state of a ticket. The error: something is too long.
func (t *ticket) append() (secret.Bytes, error) {
	var b cryptobyte.Builder
	for _, at := range []time.Time{t.expires, t.proven, t.until} {
		b.AddUint64(uint64(unix(at)))
	}
	b.AddBytes(t.origin[:])
	short := func(v []byte) { b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(v) }) }
	long := func(v []byte) { b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(v) }) }
	short([]byte(t.peer))
	for _, id := range []core.ID{t.id, t.our} {
		b.AddUint8(uint8(id.Type))
		long([]byte(id.Data))
	}
	long(proposing(nil, t.chosen).AppendBody(nil))
	short(t.d)
	short(t.home.AsSlice())
	return b.Bytes()
}

// errTicket: the bytes are no ticket's state.
var errTicket = errors.New("its content is not what this gateway writes")

// parseTicket is the reverse. What it hands out is a copy.
func parseTicket(state []byte) (*ticket, error) {
	s := cryptobyte.String(state)
	t := &ticket{}
	ok := true
	for _, at := range []*time.Time{&t.expires, &t.proven, &t.until} {
		var v uint64
		ok = ok && s.ReadUint64(&v)
		*at = fromUnix(int64(v))
	}
	ok = ok && s.CopyBytes(t.origin[:])
	var v cryptobyte.String
	ok = ok && s.ReadUint8LengthPrefixed(&v)
	t.peer = string(v)
	for _, id := range []*core.ID{&t.id, &t.our} {
		var kind uint8
		ok = ok && s.ReadUint8(&kind) && s.ReadUint16LengthPrefixed(&v)
		*id = core.ID{Type: core.IDType(kind), Data: string(v)}
	}
	var chosen, d cryptobyte.String
	if !ok || !s.ReadUint16LengthPrefixed(&chosen) || !s.ReadUint8LengthPrefixed(&d) || !s.ReadUint8LengthPrefixed(&v) || !s.Empty() || len(d) == 0 {
		return nil, errTicket
	}
	if t.home, ok = netip.AddrFromSlice(v); !ok && len(v) > 0 {
		return nil, errTicket
	}
	_, sa := message.AppendPayloads(nil, []message.Payload{&message.Unknown{T: message.TypeSA, Body: chosen}})
	ps, err := message.ParsePayloads(message.TypeSA, sa)
	if err != nil || len(find[*message.SA](ps).Proposals) != 1 {
		return nil, errTicket
	}
	t.chosen, t.d = neutral(find[*message.SA](ps).Proposals)[0], secret.Bytes(clone(d))
	return t, nil
}

// unix and fromUnix keep the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// TicketJar has the keys of a gateway's tickets, and remembers which of them have
// been used: a ticket counts once (RFC 5723 §4.3.1). When it has no room for
// more, it draws new keys and forgets the old ones, so that no ticket given out
// before counts. Used ones are not known to the next life of the gateway; what
// a used one is good for without its SK_d is a half-open IKE SA.
type TicketJar struct {
	keys  []core.TicketKey // newest first
	spent map[ticketName]time.Time
	trust [32]byte // of the authorities and CRLs
	timer *core.Timer

	origins map[*core.Peer]map[[32]byte]*core.Identity // as they were needed since Trusting
}

// Take takes over the keys of an earlier life.
func (j *TicketJar) Take(env *core.Env, keys []core.TicketKey) {
	keys = slices.DeleteFunc(keys, func(k core.TicketKey) bool { return len(k.Secret) != core.TicketKeyLen })
	j.keys = append(j.keys, keys...)
	slices.SortStableFunc(j.keys, func(a, b core.TicketKey) int { return cmp.Compare(b.Since, a.Since) })
	if j.prune(env) {
		j.keep(env)
	}
}

// Trusting is told of a new configuration, and what certificates are checked against in it.
func (j *TicketJar) Trusting(t *core.Trust) {
	h := sha256.New()
	if t != nil {
		for _, a := range t.Authorities {
			h.Write(a.Cert.Raw)
		}
		for _, c := range t.CRLs {
			h.Write(c.Raw)
		}
	}
	j.trust, j.origins = [32]byte(h.Sum(nil)), map[*core.Peer]map[[32]byte]*core.Identity{}
}

// key is the one to seal with.
func (j *TicketJar) key(env *core.Env) core.TicketKey {
	now := env.Now().Unix()
	if len(j.keys) > 0 {
		if age := time.Duration(now-j.keys[0].Since) * time.Second; age >= 0 && age < keyLife {
			return j.keys[0]
		}
	}
	j.draw(env)
	return j.keys[0]
}

// draw draws a new key.
func (j *TicketJar) draw(env *core.Env) {
	k := core.TicketKey{ID: [8]byte(env.Random(8)), Secret: env.Private(core.TicketKeyLen), Since: env.Now().Unix()}
	j.keys = append([]core.TicketKey{k}, j.keys...)
	j.prune(env)
	j.keep(env)
}

// prune drops the keys that nothing was sealed with that still counts, and comes
// back when the next one is due.
func (j *TicketJar) prune(env *core.Env) (dropped bool) {
	now := env.Now()
	ends := func(k core.TicketKey) time.Time { return time.Unix(k.Since, 0).Add(keyLife + maxTicketLife) }
	var left []core.TicketKey
	for _, k := range j.keys {
		if len(left) < maxKeys && now.Before(ends(k)) {
			left = append(left, k)
		} else {
			k.Secret.Wipe()
			dropped = true
		}
	}
	j.keys = left
	env.Timers.Stop(j.timer)
	j.timer = nil
	if n := len(left); n > 0 {
		j.timer = env.Timers.At(ends(left[n-1]), func() {
			if j.prune(env) {
				j.keep(env)
			}
		})
	}
	return dropped
}

// keep puts the keys out.
func (j *TicketJar) keep(env *core.Env) {
	out := slices.Clone(j.keys)
	for i := range out {
		out[i].Secret = out[i].Secret.Clone()
	}
	env.Emit(core.KeepTicketKeys{Keys: out})
}

// Rest stops what the jar does by itself: the gateway stops.
func (j *TicketJar) Rest(env *core.Env) {
	env.Timers.Stop(j.timer)
	j.timer = nil
}

// seal makes a ticket. The error: it would be too long.
func (j *TicketJar) seal(env *core.Env, t *ticket) ([]byte, ticketName, error) {
	state, err := t.append()
	if err != nil || len(state) > maxTicket-ticketHead-16 {
		return nil, ticketName{}, errors.New("it would be too long")
	}
	defer state.Wipe()
	k := j.key(env)
	name := ticketName(env.Random(12))
	head := slices.Concat([]byte{ticketVersion}, k.ID[:], name[:])
	return gcm(k.Secret).Seal(head, name[:], state, head), name, nil
}

// open reads a ticket. The error says for people why it does not count.
func (j *TicketJar) open(env *core.Env, raw []byte) (*ticket, ticketName, error) {
	if len(raw) < ticketHead+16 || len(raw) > maxTicket || raw[0] != ticketVersion {
		return nil, ticketName{}, errors.New("it is none of this gateway's")
	}
	head := raw[:ticketHead]
	i := slices.IndexFunc(j.keys, func(k core.TicketKey) bool { return string(k.ID[:]) == string(raw[1:9]) })
	if i < 0 {
		return nil, ticketName{}, errors.New("this gateway has no key for it, or has it no more")
	}
	name := ticketName(raw[9:ticketHead])
	state, err := gcm(j.keys[i].Secret).Open(nil, name[:], raw[ticketHead:], head)
	if err != nil {
		return nil, name, errors.New("it is damaged or forged")
	}
	defer clear(state)
	t, err := parseTicket(state)
	switch {
	case err != nil:
		return nil, name, err
	case !env.Now().Before(t.expires):
		err = errors.New("it has expired")
	case j.used(name):
		err = errors.New("it was used before, or its IKE SA was deleted")
	}
	if err != nil {
		t.d.Wipe()
		return nil, name, err
	}
	return t, name, nil
}

// witnessed is what came of open, unless a Witness knows better. It sees the state
// without SK_d, and in place of the origin, in which the secret is, which of the
// peer's identities has it.
func (j *TicketJar) witnessed(env *core.Env, peer *core.Peer, t *ticket, fault error) (*ticket, error) {
	const none = 255
	if env.Witness == nil {
		return t, fault
	}
	var seen []byte
	if fault == nil {
		public := *t
		public.origin, public.d = [32]byte{}, make(secret.Bytes, len(t.d))
		state, err := public.append()
		if err != nil {
			return t, fault
		}
		at := none
		if i := slices.Index(peer.Identities, j.identity(peer, t.origin)); i >= 0 && i < none {
			at = i
		}
		seen = append(state, byte(at))
	}
	holds := env.Witness.Unsealed(seen)
	if bytes.Equal(holds, seen) {
		return t, fault
	}
	if t != nil {
		t.d.Wipe()
	}
	if len(holds) == 0 {
		return nil, errors.New("it does not open")
	}
	t, err := parseTicket(holds[:len(holds)-1])
	if i := int(holds[len(holds)-1]); err == nil && i < len(peer.Identities) {
		t.origin = j.origin(peer, peer.Identities[i])
	}
	return t, err
}

// gcm is AES-256-GCM, whose making cannot fail with a key of this length.
func gcm(key secret.Bytes) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (j *TicketJar) used(name ticketName) bool {
	_, used := j.spent[name]
	return used
}

// spend has a ticket count no more.
func (j *TicketJar) spend(env *core.Env, name ticketName, expires time.Time) {
	if len(j.spent) >= maxSpent {
		maps.DeleteFunc(j.spent, func(_ ticketName, until time.Time) bool { return !env.Now().Before(until) })
	}
	if len(j.spent) >= maxSpent {
		for _, k := range j.keys {
			k.Secret.Wipe()
		}
		j.keys, j.spent = nil, nil
		j.draw(env)
		return
	}
	if j.spent == nil {
		j.spent = map[ticketName]time.Time{}
	}
	j.spent[name] = expires
}

// origin is what the proof of a peer depends on: a ticket counts while it is the
// same. It has the secret in it and goes nowhere but into sealed tickets.
func (j *TicketJar) origin(p *core.Peer, id *core.Identity) [32]byte {
	h := sha256.New()
	put := func(parts ...[]byte) {
		for _, b := range parts {
			n := len(b)
			h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			h.Write(b)
		}
	}
	flag := func(v bool) byte {
		if v {
			return 1
		}
		return 0
	}
	put([]byte(p.Name), []byte{byte(id.Auth), byte(id.Remote()), flag(id.Ignore), flag(id.Pattern), flag(id.MatchCert), byte(id.MyID.Type), byte(id.RemoteID.Type)},
		[]byte(id.MyID.Data), []byte(id.RemoteID.Data), id.Secret)
	if id.Own != nil {
		put(id.Own.Chain[0].Raw)
	}
	if id.RemoteCert != nil {
		put(id.RemoteCert.Raw)
	}
	if id.PPK != nil {
		put([]byte(id.PPK.ID), id.PPK.Secret, []byte{flag(id.PPK.Required)})
	}
	if auth.Of(id.Remote()).Certificate {
		put(j.trust[:])
	}
	return [32]byte(h.Sum(nil))
}

// identity finds the identity of an origin; nil: it changed or is gone.
func (j *TicketJar) identity(p *core.Peer, origin [32]byte) *core.Identity {
	known := j.origins[p]
	if known == nil {
		known = map[[32]byte]*core.Identity{}
		for _, id := range slices.Backward(p.Identities) { // of two that are alike the first counts
			known[j.origin(p, id)] = id
		}
		j.origins[p] = known
	}
	return known[origin]
}
