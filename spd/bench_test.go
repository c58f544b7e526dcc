package spd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// A gateway as they are: sites with nets of several lengths, road warriors with
// one address each, a few exceptions by protocol and port before everything.
func gateway(n int) []Policy {
	w := newWorld(uint64(n))
	local := []string{"192.168.0.0/16", "192.168.7.0/24", "172.16.0.0/12", "0.0.0.0/0"}
	var out []Policy
	ssh := nets("192.168.0.0/16", "10.0.0.0/8")
	ssh.Local.Proto, ssh.Remote.Proto, ssh.Remote.PortLo, ssh.Remote.PortHi = 6, 6, 22, 22
	out = append(out, Policy{Pair: ssh, Action: None})
	for len(out) < n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24|w.Uint32N(1<<24))
		bits := []int{20, 24, 24, 28, 32, 32, 32, 32}[w.IntN(8)]
		pair := nets(local[w.IntN(len(local))], "0.0.0.0/0")
		pair.Remote = selector.FromPrefix(netip.PrefixFrom(netip.AddrFrom4(b), bits))
		out = append(out, Policy{Pair: pair})
	}
	return out
}

// Flows that hit, but for random policies of another protocol.
func traffic(policies []Policy, n int) []wire.Flow {
	w := newWorld(3)
	out := make([]wire.Flow, n)
	for i := range out {
		p := policies[w.IntN(len(policies))].Pair
		out[i] = wire.Flow{Src: p.Local.Hi, Dst: p.Remote.Lo, Proto: 6, SrcPort: uint16(w.Uint32()), DstPort: p.Remote.PortLo}
	}
	return out
}

func random(n int) []Policy {
	w := newWorld(uint64(n))
	out := make([]Policy, n)
	for i := range out {
		out[i] = w.policy()
	}
	return out
}

// Two networks and a policy for each of many ranges of ports, which overlap.
func ports(n int) []Policy {
	w := newWorld(uint64(n))
	out := make([]Policy, n)
	for i := range out {
		p := nets("192.168.0.0/16", "10.0.0.0/8")
		p.Local.Proto, p.Remote.Proto = 6, 6
		p.Remote.PortLo = uint16(w.Uint32N(65000))
		p.Remote.PortHi = p.Remote.PortLo + uint16(w.Uint32N(uint32(min(500, 100000/n+2))))
		out[i] = Policy{Pair: p}
	}
	return out
}

// Both columns of a ratio are of one run: -bench Lookup.
func BenchmarkLookup(b *testing.B) {
	for _, shape := range []struct {
		name string
		make func(int) []Policy
	}{{"gateway", gateway}, {"ports", ports}, {"random", random}} {
		for _, n := range []int{10, 1000, 100000} {
			policies := shape.make(n)
			db := New()
			db.Replace(policies)
			for _, count := range []int{64, 8192} {
				flows := traffic(policies, count)
				b.Run(fmt.Sprintf("%s/policies=%d/flows=%d", shape.name, n, count), func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						db.Lookup(&flows[i%count])
					}
				})
				b.Run(fmt.Sprintf("%s/policies=%d/flows=%d/cache", shape.name, n, count), func(b *testing.B) {
					cache := new(Cache)
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						cache.Lookup(db, &flows[i%count])
					}
				})
			}
		}
	}
}

// BenchmarkScale is a look-up without a cache with few and with many policies: ns, the
// least of the rounds, which take turns so that both have the same machine.
func BenchmarkScale(b *testing.B) {
	const round = 8192
	for _, shape := range []struct {
		name string
		make func(int) []Policy
	}{{"gateway", gateway}, {"ports", ports}, {"random", random}} {
		var db [2]*Database
		var flows [2][]wire.Flow
		for i, n := range []int{10, 100000} {
			policies := shape.make(n)
			db[i], flows[i] = New(), traffic(policies, round)
			db[i].Replace(policies)
		}
		for _, count := range []int{64, round} {
			b.Run(fmt.Sprintf("%s/flows=%d", shape.name, count), func(b *testing.B) {
				least := [2]time.Duration{time.Hour, time.Hour}
				for b.Loop() {
					for i := range db {
						for range 2 { // the first brings into the caches what the other has put out
							begin := time.Now()
							for k := range round {
								db[i].Lookup(&flows[i][k%count])
							}
							least[i] = min(least[i], time.Since(begin))
						}
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(least[0].Nanoseconds())/round, "ns-10")
				b.ReportMetric(float64(least[1].Nanoseconds())/round, "ns-100000")
				b.ReportMetric(float64(least[1])/float64(least[0]), "ratio")
			})
		}
	}
}

func BenchmarkReplace(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			policies := gateway(n)
			db := New()
			b.ReportAllocs()
			for b.Loop() {
				db.Replace(policies)
			}
		})
	}
}
