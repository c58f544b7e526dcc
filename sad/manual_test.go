package sad

import (
	"errors"
	"testing"

	"culvert/crypto/suite"
	"culvert/esp"
)

func manual(t *testing.T, table *Table, id uint64, spi uint32) Params {
	t.Helper()
	p := params(t, table, id)
	table.FreeSPI(p.In.SPI)
	p.In.SPI, p.Manual = spi, true
	return p
}

// SPIs that people give are found beside those of the table, and never given out by it.
func TestManualSPIs(t *testing.T) {
	table := NewTable(4, 1)
	negotiated := install(t, table, params(t, table, 1))
	given := install(t, table, manual(t, table, 2, 0x100))
	if table.Inbound(0x100) != given.Inbound() || !given.Manual() || negotiated.Manual() {
		t.Fatal("a given SPI is not found")
	}
	for spi, why := range map[uint32]string{0x100: "given twice", 255: "reserved", negotiated.Inbound().SPI(): "negotiated"} {
		if _, err := table.Install(manual(t, table, 3, spi)); !errors.Is(err, ErrTaken) {
			t.Errorf("%s: %v", why, err)
		}
	}
	// Whatever the table gives next, people may have it already.
	other := NewTable(4, 1)
	next := other.AllocSPIs(2)[1] // the first is negotiated's
	install(t, table, manual(t, table, 4, next))
	for range 1000 {
		for _, spi := range table.AllocSPIs(1) {
			if spi == next || spi == 0x100 {
				t.Fatalf("%#x was given out", spi)
			}
			table.FreeSPI(spi)
		}
	}
	if !table.Remove(2) || table.Inbound(0x100) != nil || !table.Remove(4) || table.manual.Load() != nil {
		t.Error("a given SPI outlives its SA")
	}
	install(t, table, manual(t, table, 5, 0x100))
	table.Close()
	if table.Inbound(0x100) != nil || !given.wiped {
		t.Error("Close left it")
	}
}

// A bundle: the AH SA is reached through the ESP SA, and takes it along when it goes.
func TestBundle(t *testing.T) {
	table := NewTable(10, 1)
	p := params(t, table, 1)
	p.Bundled, p.Standby, p.UDP = true, true, false
	inner := install(t, table, p)
	around := func(id, under uint64) Params {
		p := params(t, table, id)
		sha := suite.IntegByName("sha1")
		p.Protocol, p.Under = ProtocolAH, under
		p.In = esp.Params{SPI: p.In.SPI, Integ: sha, IntegKey: make([]byte, 20)}
		p.Out = esp.Params{SPI: 7777, Integ: sha, IntegKey: make([]byte, 20)}
		return p
	}
	alone := install(t, table, params(t, table, 2))
	for _, under := range []uint64{2, 9} {
		if _, err := table.Install(around(3, under)); !errors.Is(err, ErrUnder) {
			t.Errorf("around %d: %v", under, err)
		}
	}
	outer := install(t, table, around(4, 1))
	if inner.Over() != outer || outer.Inner() != inner || alone.Over() != nil {
		t.Fatal("the two do not know each other")
	}
	if _, err := table.Install(around(5, 1)); !errors.Is(err, ErrUnder) {
		t.Error("twice around one:", err)
	}
	table.Remove(2)
	f := testFlow("10.1.0.1", "10.2.0.1")
	if table.Outbound(1, f) != nil {
		t.Error("AH seals by itself")
	}
	table.Activate(1)
	if table.Outbound(1, f) != inner.Outbound() {
		t.Error("the bundle does not seal")
	}
	table.Remove(4)
	if table.Outbound(1, f) != nil {
		t.Error("ESP goes without AH")
	}
	table.Close()
}
