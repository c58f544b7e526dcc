package sad

import "testing"

func TestNearChangesNothing(t *testing.T) {
	table, spis := fill(t, crowded)
	if table.Crowded() {
		t.Fatalf("%d SAs are a crowd", table.Len())
	}
	p := Params{ID: crowded, Protocol: ProtocolESP, Tunnel: true, In: testHalf(table.AllocSPIs(1)[0], 1), Out: testHalf(1, 2), Pairs: table.Child(0).Pairs}
	if _, err := table.Install(p); err != nil || !table.Crowded() {
		t.Fatalf("one more is none: %v", err)
	}
	in, out := table.Inbound(spis[7]), table.Child(7).Outbound()
	sum := in.Near() + in.Nearer() + out.Near() + out.Nearer()
	if sum != in.Near()+in.Nearer()+out.Near()+out.Nearer() || in.child.raised.Load() != 0 || out.sequence.Load() != 0 {
		t.Fatal("it was no mere reading")
	}
	if n := testing.AllocsPerRun(100, func() { in.Near(); in.Nearer(); out.Near(); out.Nearer() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	table.Remove(crowded)
	if table.Crowded() {
		t.Fatal("one less is one")
	}
}
