//go:build linux

package interop

import (
	"context"
	"fmt"
)

// portCells: other ports than 500 and 4500. strongSwan leaves out the non-ESP
// marker where either port is 500, and goes to 4500 from there whatever the
// peer's first port was; to another NAT-T port it has to be sent at once, and from
// its own.
func portCells() []cell {
	const g = "Other ports"
	ours := "port = 1500\nnatt-port = 4501\n"
	theirs := extra{daemon: "port = 1500\n\tport_nat_t = 4501"}
	with := func(e extra, peer string) extra {
		e.peer = peer
		return e
	}
	natt := extra{gateway: ours, connection: "local_port = 4500\n\t\tremote_port = 4501\n"}
	return []cell{
		{group: g, name: "their-ports-we-initiate", extra: with(theirs, ours), event: between("4500", "4501")},
		{group: g, name: "their-ports-natt-from-the-start", extra: with(theirs, "port = 4501\nnatt-port = 4501\n"), event: between("4500", "4501")},
		{group: g, name: "their-ports-they-initiate", extra: theirs, theyInitiate: true, event: between("4500", "4501")},
		{group: g, name: "our-ports-we-initiate", extra: extra{gateway: ours}, event: between("4501", "4500")},
		{group: g, name: "our-ports-they-initiate", extra: natt, theyInitiate: true, event: between("4501", "4500")},
	}
}

// between: ESP goes between these ports, ours first, and goes on so after each side
// has rekeyed.
func between(our, their string) event {
	all := both("", weRekeyIKE, theyRekeyChild, theyRekeyIKE, weRekeyChild)
	return event{"between UDP ports " + our + " and " + their + "; rekeyed by each side", func(ctx context.Context, r *tunnel) error {
		if err := all.do(ctx, r); err != nil {
			return err
		}
		rows, err := r.culvert.Print(ctx, "installed-sa")
		if err != nil {
			return err
		}
		ends := map[string]bool{r.we.String() + ":" + our: true, r.they.String() + ":" + their: true}
		for _, row := range rows {
			if !ends[row.Text("src-address")] || !ends[row.Text("dst-address")] {
				return fmt.Errorf("an SA goes from %s to %s", row.Text("src-address"), row.Text("dst-address"))
			}
		}
		return nil
	}}
}
