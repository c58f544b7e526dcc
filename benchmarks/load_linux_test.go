package benchmarks

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// loadEnv makes the test binary the load generator: many initiators, each of
// which makes an IKE SA with one CHILD SA, deletes it and begins anew.
const loadEnv = "CULVERT_LOAD"

// load is what the generator is told, as JSON in loadEnv.
type load struct {
	Target     netip.Addr
	Local      netip.Addr
	Group      string
	V1         bool   // IKEv1, main mode
	Certs      *certs // nil: by a preshared key
	Initiators int
	Duration   time.Duration
	Keep       bool // establish Initiators SAs once and keep them
}

// loaded is what it answers on standard output.
type loaded struct {
	Handshakes, Failures uint64
	Took                 time.Duration
}

const loadSecret = "benchmark-of-handshakes"

func runLoad(text string) error {
	var l load
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	if l.Keep {
		return runCrowd(&l)
	}
	var done, failed atomic.Uint64
	start := time.Now()
	end := start.Add(l.Duration)
	var all sync.WaitGroup
	errs := make(chan error, l.Initiators)
	for i := range l.Initiators {
		all.Go(func() {
			in, err := newInitiator(&l, i)
			if err != nil {
				errs <- err
				return
			}
			defer in.conn.Close()
			for n := 0; time.Now().Before(end); n++ {
				if err := in.handshake(uint64(n), end); err == nil {
					done.Add(1)
				} else if time.Now().Before(end) {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	return json.NewEncoder(os.Stdout).Encode(loaded{done.Load(), failed.Load(), time.Since(start)})
}

// initiator is one socket, behind which one endpoint after another makes its SA.
type initiator struct {
	load  *load
	conn  *net.UDPConn
	cfg   *core.Config
	index int
	buf   [4096]byte
}

func newInitiator(l *load, index int) (*initiator, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.Local, 0)))
	if err != nil {
		return nil, err
	}
	in := &initiator{load: l, conn: conn, index: index}
	in.cfg = in.config(conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	return in, nil
}

// config is what the endpoint of one client is told; port is its socket's.
func (in *initiator) config(port uint16) *core.Config {
	inner := netip.AddrFrom4([4]byte{10, 76 + byte(in.index>>16), byte(in.index >> 8), byte(in.index)})
	peer := &core.Peer{Name: "target", Address: netip.PrefixFrom(in.load.Target, 32), Local: in.load.Local, Port: 500, Version: core.IKEv2,
		Profile: core.Profile{Name: "load", Encrs: []*suite.Encr{suite.EncrByIKEName("aes-128-gcm")}, PRFs: []*suite.PRF{suite.PRFByName("sha256")},
			Groups: []*suite.Group{suite.GroupByName(in.load.Group)}, Lifetime: time.Hour},
		Identities: []*core.Identity{{Auth: core.AuthPSK, Secret: secret.Bytes(loadSecret),
			MyID: core.ID{Type: core.IDFQDN, Data: clientName(in.index)}}}}
	policy := &core.Policy{Ref: 1, Peer: peer, Tunnel: true, Protocol: core.ProtoESP,
		Pair: selector.Pair{Local: selector.FromPrefix(netip.PrefixFrom(inner, 32)), Remote: selector.FromPrefix(netip.MustParsePrefix("10.2.0.0/16"))},
		Proposal: core.Proposal{Name: "load", Encrs: []*suite.Encr{suite.EncrByName("aes-128-gcm")}, ESN: []bool{false},
			Lifetime: time.Hour, ReplayWindow: 64}}
	cfg := &core.Config{Peers: []*core.Peer{peer}, Policies: []*core.Policy{policy}, IKEPort: port, NATTPort: port}
	if in.load.V1 {
		peer.Version, cfg.Encapsulation = core.IKEv1, core.EncapDetect
		peer.Profile.Encrs, peer.Profile.Integs = []*suite.Encr{suite.EncrByIKEName("aes-128")}, []*suite.Integ{suite.IntegByName("sha256")}
	}
	if in.load.Certs != nil {
		in.load.Certs.use(cfg, in.index)
	}
	return cfg
}

func clientName(index int) string { return fmt.Sprintf("client%d.example", index) }

var errHandshake = errors.New("no handshake")

// handshake makes one IKE SA with a CHILD SA and deletes it again.
func (in *initiator) handshake(n uint64, end time.Time) error {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint64(seed[8:], uint64(in.index)<<32|n)
	e := ike.New(seed)
	up, gone := false, false
	input := func(i core.Input) {
		e.Handle(time.Now(), i)
		for {
			o, ok := e.Poll()
			if !ok {
				return
			}
			switch o := o.(type) {
			case core.Send:
				in.send(o)
			case core.Ask:
				b, err := o.Work.Do()
				e.Handle(time.Now(), core.Answer{ID: o.ID, Data: b, Err: err})
			case core.NeedSPIs:
				spis := make([]uint32, o.N)
				for i := range spis {
					spis[i] = 0x1000 + uint32(n)*64 + uint32(i)
				}
				e.Handle(time.Now(), core.SPIs{SPIs: spis})
			case core.Event:
				switch o.Kind {
				case core.EvChildUp:
					up = true
				case core.EvIKEDown, core.EvInitFailed, core.EvAuthFailed, core.EvNoProposal:
					gone = true
				}
			}
		}
	}
	if in.load.V1 { // every time somebody else: after a DELETE an SA hears its peer for a moment longer
		in.cfg.Peers[0].Identities[0].MyID.Data = clientName(in.index + int(n)*in.load.Initiators)
	}
	input(core.Reconfigure{Config: in.cfg})
	deleting := false
	for !gone && (!e.Idle() || !deleting) {
		if up && !deleting {
			deleting = true
			input(core.Command{Do: core.Shutdown})
			continue
		}
		deadline, ok := e.Deadline()
		if !ok || deadline.After(end.Add(time.Second)) {
			deadline = end.Add(time.Second)
		}
		_ = in.conn.SetReadDeadline(deadline)
		k, from, err := in.conn.ReadFromUDPAddrPort(in.buf[:])
		if err != nil {
			if time.Now().After(end) && !up {
				return errHandshake
			}
			if time.Now().After(end) {
				return nil
			}
			input(core.Tick{})
			continue
		}
		data, natt := in.buf[:k], from.Port() == 4500
		if natt && k > 4 {
			data = data[4:]
		}
		local := netip.AddrPortFrom(in.load.Local, in.cfg.IKEPort)
		input(core.Datagram{Local: local, Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), NATT: natt, Data: data})
	}
	if !up {
		return errHandshake
	}
	return nil
}

func (in *initiator) send(o core.Send) {
	data := o.Data
	if o.NATT {
		data = append(make([]byte, 4, 4+len(data)), data...)
	}
	_, _ = in.conn.WriteToUDPAddrPort(data, o.Remote) // what is lost is sent again
}
