package sad

import "sync/atomic"

// policyIndex finds the active outbound SAs of a policy: a hash table whose
// buckets are immutable. A change replaces one bucket and one policy's list; the
// table doubles when buckets grow long, so that its cost stays constant for each
// change. find is for everybody, the rest is under the table's mutex.
type policyIndex struct {
	buckets atomic.Pointer[[]atomic.Pointer[bucket]]
	entries int
}

type bucket []policyEntry

type policyEntry struct {
	policy uint32
	active []*Outbound // newest installation first, at least one
}

const firstBuckets = 64

func (x *policyIndex) init() {
	b := make([]atomic.Pointer[bucket], firstBuckets)
	x.buckets.Store(&b)
}

// hashPolicy spreads references, which mostly count up, by the golden ratio.
func hashPolicy(policy uint32, buckets int) int {
	return int(uint64(policy*0x9e3779b1) * uint64(buckets) >> 32)
}

func (x *policyIndex) find(policy uint32) []*Outbound {
	buckets := *x.buckets.Load()
	b := buckets[hashPolicy(policy, len(buckets))].Load()
	if b == nil {
		return nil
	}
	for i := range *b {
		if e := &(*b)[i]; e.policy == policy {
			return e.active
		}
	}
	return nil
}

// add puts o in front of everything that was installed before it.
func (x *policyIndex) add(policy uint32, o *Outbound) {
	old := x.find(policy)
	at := 0
	for at < len(old) && old[at].child.serial > o.child.serial {
		at++
	}
	list := make([]*Outbound, 0, len(old)+1)
	list = append(list, old[:at]...)
	list = append(list, o)
	list = append(list, old[at:]...)
	x.set(policy, list)
}

func (x *policyIndex) remove(policy uint32, o *Outbound) {
	var list []*Outbound
	for _, v := range x.find(policy) {
		if v != o {
			list = append(list, v)
		}
	}
	x.set(policy, list)
}

// set replaces the list of a policy; an empty one takes the policy out.
func (x *policyIndex) set(policy uint32, list []*Outbound) {
	buckets := *x.buckets.Load()
	place := &buckets[hashPolicy(policy, len(buckets))]
	var next bucket
	had := false
	if old := place.Load(); old != nil {
		for _, e := range *old {
			if e.policy == policy {
				had = true
				continue
			}
			next = append(next, e)
		}
	}
	if len(list) > 0 {
		next = append(next, policyEntry{policy, list})
	}
	if len(next) == 0 {
		place.Store(nil)
	} else {
		place.Store(&next)
	}
	switch {
	case had && len(list) == 0:
		x.entries--
	case !had && len(list) > 0:
		x.entries++
	}
	if x.entries > len(buckets) {
		x.double(buckets)
	}
}

func (x *policyIndex) double(old []atomic.Pointer[bucket]) {
	buckets := make([]atomic.Pointer[bucket], 2*len(old))
	for i := range old {
		b := old[i].Load()
		if b == nil {
			continue
		}
		for _, e := range *b {
			place := &buckets[hashPolicy(e.policy, len(buckets))]
			var grown bucket
			if had := place.Load(); had != nil {
				grown = *had
			}
			grown = append(grown, e)
			place.Store(&grown)
		}
	}
	x.buckets.Store(&buckets)
}
