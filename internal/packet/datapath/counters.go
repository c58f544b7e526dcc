package datapath

import (
	"sync"
	"sync/atomic"
)

// Reason is what became of a packet. Every dropped packet has exactly one, and
// counts in the counter of that name.
type Reason uint8

// The manual's statistics table, in its order, then our own.
const (
	InErrors               Reason = iota // inbound and in no other row: the device refused the packet, or a datagram is too short for IKE and ESP
	InBufferErrors                       // no room for a fragment that has to wait for the rest of its packet
	InHeaderErrors                       // too short for ESP, or the inner IP header is bad, or it could not carry the congestion that the outer one tells of
	InNoStates                           // no SA of this SPI
	InStateProtocolErrors                // ICV or padding wrong
	InStateModeErrors                    // not an IP packet inside a tunnel SA; an SA in a mode that cannot be opened
	InStateSequenceErrors                // replayed, or left of the replay window
	InStateExpired                       // the SA met its hard limit
	InStateMismatches                    // an SA whose keys people gave got ESP in UDP and is without, or the other way round; negotiated ones take both (RFC 7296 §2.23)
	InStateInvalid                       // no SA yet: its SPI is given out, and what the peer sent with it overtook the negotiation
	InTemplateMismatches                 // the inner packet is outside the SA's selectors, or its policy wants no protection
	InNoPolicies                         // the SA was right, but no policy covers the inner packet
	InPolicyBlocked                      // the policy discards
	InPolicyErrors                       // the SA was right, but the first policy for the inner packet is dead
	OutErrors                            // outbound and in no other row: not an IP packet, or the network refused it
	OutBundleErrors                      // a packet could not be built: it would be too long, or its headers have no place
	OutBundleCheckErrors                 // ESP that goes within AH, and its AH is not there
	OutNoStates                          // the policy's SA is not there yet; the daemon was asked
	OutStateProtocolErrors               // the transform failed: AH in front of headers that it cannot read
	OutStateModeErrors                   // an SA in a mode that cannot be sealed
	OutStateSequenceErrors               // sequence numbers are used up
	OutStateExpired                      // the SA met its hard limit
	OutPolicyBlocked                     // the policy discards
	OutPolicyDead                        // the policy is dead: it wants an SA, and nobody can have one for it, for its peer is disabled
	OutPolicyErrors                      // no policy covers the packet, so it has nowhere to go
	OutUnprotected                       // may pass unprotected (action none, or level use without SA), and there is no way past the policies
	InFragmentErrors                     // a fragment that came twice, or whose packet did not become whole in time
	OutBufferErrors                      // a fragment that there was no room for
	OutFragmentErrors                    // as InFragmentErrors

	InFlowErrors  // a flow that the host could not tell from that of another client with the same addresses (flows.go)
	OutFlowErrors // of several clients with these addresses nobody knows whom it is for
	OutTooBig     // too long for the path, and not to be cut; its sender was told, unless by rule or rate
	OutLinkLocal  // for a link-local group, and no policy covers it: MLD, IGMP, router solicitations, mDNS

	Passed // not a drop: sent, delivered, or handed to IKE

	drops   = int(Passed)
	manuals = int(OutUnprotected)
)

// Counters that are no drops follow the reasons.
const (
	txPackets = drops + iota
	txBytes
	txClear     // passed unprotected, as the policy wants
	txFragments // pieces of packets that were made whole to be judged
	txSplit     // packets that left in fragments, each sealed
	txCut       // packets whose outer packet was too long, and left in fragments
	txTooBig    // senders that were told what fits
	txClamped   // SYNs whose MSS was lowered, on the way out
	rxPackets
	rxBytes
	rxDummies
	rxFragments
	rxIKE
	rxKeepalives
	txDummies
	rxTranslated    // flows of one of several clients that go by another port between us and the host
	rxClamped       // SYNs whose MSS was lowered, on the way in
	rxTooBig        // ICMP about packets of our SAs: too big
	rxUnreachable   // … no way, no host, no port
	rxProhibited    // … forbidden by somebody's rules
	rxUndelivered   // … other causes
	rxUnrelated     // ICMP about packets of no SA of ours
	rxUnproven      // ICMP about ESP in UDP that quotes no SPI
	txRelated       // ICMP errors that left by the SA of what they quote
	rxRelated       // … that came so
	rxLocal         // taken by the gateway itself
	rxECNUnexpected // delivered though no sender makes such a pair of ECN fields (RFC 6040 §4.2)

	counterCount
)

var counterNames = [counterCount]string{
	InErrors:               "in-errors",
	InBufferErrors:         "in-buffer-errors",
	InHeaderErrors:         "in-header-errors",
	InNoStates:             "in-no-states",
	InStateProtocolErrors:  "in-state-protocol-errors",
	InStateModeErrors:      "in-state-mode-errors",
	InStateSequenceErrors:  "in-state-sequence-errors",
	InStateExpired:         "in-state-expired",
	InStateMismatches:      "in-state-mismatches",
	InStateInvalid:         "in-state-invalid",
	InTemplateMismatches:   "in-template-mismatches",
	InNoPolicies:           "in-no-policies",
	InPolicyBlocked:        "in-policy-blocked",
	InPolicyErrors:         "in-policy-errors",
	OutErrors:              "out-errors",
	OutBundleErrors:        "out-bundle-errors",
	OutBundleCheckErrors:   "out-bundle-check-errors",
	OutNoStates:            "out-no-states",
	OutStateProtocolErrors: "out-state-protocol-errors",
	OutStateModeErrors:     "out-state-mode-errors",
	OutStateSequenceErrors: "out-state-sequence-errors",
	OutStateExpired:        "out-state-expired",
	OutPolicyBlocked:       "out-policy-blocked",
	OutPolicyDead:          "out-policy-dead",
	OutPolicyErrors:        "out-policy-errors",
	OutUnprotected:         "out-unprotected",
	InFragmentErrors:       "in-fragment-errors",
	OutBufferErrors:        "out-buffer-errors",
	OutFragmentErrors:      "out-fragment-errors",
	InFlowErrors:           "in-flow-errors",
	OutFlowErrors:          "out-flow-errors",
	OutTooBig:              "out-too-big",
	OutLinkLocal:           "out-link-local",
	txPackets:              "tx-packets",
	txBytes:                "tx-bytes",
	txClear:                "tx-unprotected",
	txFragments:            "tx-fragments",
	txSplit:                "tx-split",
	txCut:                  "tx-outer-fragmented",
	txTooBig:               "tx-icmp-too-big",
	txClamped:              "tx-mss-clamped",
	rxPackets:              "rx-packets",
	rxBytes:                "rx-bytes",
	rxDummies:              "rx-dummies",
	rxFragments:            "rx-fragments",
	rxIKE:                  "rx-ike",
	rxKeepalives:           "rx-keepalives",
	txDummies:              "tx-dummies",
	rxTranslated:           "rx-flows-translated",
	rxClamped:              "rx-mss-clamped",
	rxTooBig:               "rx-icmp-too-big",
	rxUnreachable:          "rx-icmp-unreachable",
	rxProhibited:           "rx-icmp-prohibited",
	rxUndelivered:          "rx-icmp-undelivered",
	rxUnrelated:            "rx-icmp-unrelated",
	rxUnproven:             "rx-icmp-unproven",
	txRelated:              "tx-icmp-related",
	rxRelated:              "rx-icmp-related",
	rxLocal:                "rx-local",
	rxECNUnexpected:        "rx-ecn-unexpected",
}

// String is the name of the counter, "passed" for Passed.
func (r Reason) String() string {
	if int(r) < drops {
		return counterNames[r]
	}
	if r == Passed {
		return "passed"
	}
	return "unknown"
}

// Counter is one counter by name. Bytes are of inner packets.
type Counter struct {
	Name  string
	Value uint64
}

// ManualCounters is how many counters of a Snapshot, from the first, are rows of
// the manual's table; those behind them are Culvert's own.
const ManualCounters = manuals

// counters is one worker's share, so that workers do not write one cache line.
type counters struct {
	_ [64]byte
	n [counterCount]atomic.Uint64
	_ [64]byte
}

func (c *counters) drop(r Reason)              { c.n[r].Add(1) }
func (c *counters) add(counter int, by uint64) { c.n[counter].Add(by) }

// passed counts a batch of total packets, together bytes, of which an edge took
// n; the others count as refused. Which ones they were the edge does not say, so
// their bytes are taken in proportion. The bytes' counter follows packets'.
func (c *counters) passed(n, total, bytes int, err error, packets int, refused Reason) Reason {
	if err == nil {
		n = total
	}
	n = min(max(n, 0), total)
	c.add(packets, uint64(n))
	c.add(packets+1, uint64(bytes*n/total))
	if n == total {
		return Passed
	}
	c.add(int(refused), uint64(total-n))
	return refused
}

// Counters adds up what the workers count.
type Counters struct {
	mu      sync.Mutex
	workers []*counters
}

// worker is the share of one more worker.
func (c *Counters) worker() *counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := new(counters)
	c.workers = append(c.workers, w)
	return w
}

func (c *Counters) get(i int) (n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		n += w.n[i].Load()
	}
	return n
}

// Get is how many packets were dropped for a reason; 0 for Passed.
func (c *Counters) Get(r Reason) uint64 {
	if int(r) >= drops {
		return 0
	}
	return c.get(int(r))
}

// Snapshot lists all counters: the manual's in its order, then our own. Each is
// exact; they are not of one instant.
func (c *Counters) Snapshot() []Counter {
	list := make([]Counter, counterCount)
	for i := range list {
		list[i] = Counter{counterNames[i], c.get(i)}
	}
	return list
}
