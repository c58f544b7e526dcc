//go:build linux

package interop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/internal/testing/lab"
)

// atOnceCells: both ends connect in the same moment, culvert because it starts,
// strongSwan by command.
func atOnceCells() []cell {
	const g = "Both ends initiate at once"
	return []cell{
		{group: g, name: "both-initiate-at-once", event: bothInitiate("both initiate in one moment, four times", 4, false), limit: 8 * time.Minute},
		{group: g, name: "both-initiate-before-either-is-heard", event: bothInitiate("both initiate while nothing arrives, three times", 3, true), limit: 8 * time.Minute},
	}
}

// calm is for how long nothing may change once both ends agree. SAs that each end
// replaced because of the other would be new every second.
const calm = 6 * time.Second

// bothInitiate has both ends begin, which must come to one IKE SA or two that both
// ends have, with traffic through the tunnel, and stay so. If deaf, neither hears the
// other until both have begun, so that there are two for certain.
func bothInitiate(what string, times int, deaf bool) event {
	return event{what, func(ctx context.Context, r *tunnel) error {
		for try := range times {
			if err := r.bothLeave(ctx); err != nil {
				return err
			}
			theirs := make(chan error, 1)
			begin := func() { theirs <- r.swan.InitiateChild(ctx, "c") }
			if deaf {
				r.hear(false)
				r.culvert.Restart(ctx) // which goes on asking; strongSwan does for ten seconds
				go begin()
			} else {
				go begin()
				r.culvert.Restart(ctx)
			}
			if deaf {
				if err := r.bothBegun(ctx); err != nil {
					return err
				}
				r.hear(true)
			}
			<-theirs      // an error too: its own attempt may have given way to ours
			for range 2 { // traffic on what strongSwan began tells us that it has it: we may then end what we began
				if err := r.settles(ctx); err != nil {
					return fmt.Errorf("attempt %d: %w", try+1, err)
				}
				if err := r.transfer(ctx, payload); err != nil {
					return fmt.Errorf("attempt %d: %w", try+1, err)
				}
			}
		}
		if err := r.bothLeave(ctx); err != nil {
			return err
		}
		r.culvert.Restart(ctx)
		return r.establish(ctx)
	}}
}

// bothLeave stops culvert, which deletes its SAs, and waits until strongSwan has none.
func (r *tunnel) bothLeave(ctx context.Context) error {
	if err := r.culvert.Terminate(ctx); err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		sas, err := r.swan.SAs(ctx)
		if err == nil && len(sas) != 0 {
			err = fmt.Errorf("strongSwan still has %d IKE SAs", len(sas))
		}
		return err
	})
}

// hear lets both ends hear IKE, or not.
func (r *tunnel) hear(on bool) {
	for _, n := range []*lab.Node{r.us, r.them} {
		if on {
			n.Run("nft", "delete", "table", "inet", "deaf")
			continue
		}
		n.Run("nft", "table inet deaf { chain in { type filter hook input priority -10; udp dport { 500, 4500 } drop; }; }")
	}
}

// bothBegun waits until both ends are connecting.
func (r *tunnel) bothBegun(ctx context.Context) error {
	return lab.Until(ctx, func() error {
		sas, err := r.swan.SAs(ctx)
		if err != nil {
			return err
		}
		peers, err := r.culvert.Print(ctx, "active-peers")
		if err == nil && (len(sas) != 1 || len(peers) != 1) {
			err = fmt.Errorf("strongSwan has %d IKE SAs, culvert %d; wanted one each, which it began", len(sas), len(peers))
		}
		return err
	})
}

// settles waits until both ends have had the same SAs for a while.
func (r *tunnel) settles(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last, since := "", time.Now()
	return lab.Until(ctx, func() error {
		was := last
		err := r.agree(ctx, &last)
		if err != nil || last != was {
			since = time.Now()
		}
		if err != nil {
			return err
		}
		if quiet := time.Since(since); quiet < calm {
			return fmt.Errorf("the SAs changed %v ago: %s", quiet.Round(time.Second), last)
		}
		return nil
	})
}

// agree checks that both ends have the same one or two IKE SAs, each with a CHILD SA
// at most, the same ones, and writes down which.
func (r *tunnel) agree(ctx context.Context, which *string) error {
	sas, err := r.swan.SAs(ctx)
	if err != nil {
		return err
	}
	ours, err := r.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	peers, err := r.culvert.Print(ctx, "active-peers")
	if err != nil {
		return err
	}
	var list []string
	children := 0
	for _, sa := range sas {
		list = append(list, fmt.Sprintf("IKE SA %s %s %s", sa.InitiatorSPI, sa.ResponderSPI, sa.State))
		for _, c := range sa.Children {
			list = append(list, fmt.Sprintf("CHILD SA %s %s %s", c.SPIIn, c.SPIOut, c.State))
			if c.State != "INSTALLED" || rowOf(ours, c.SPIIn) == nil || rowOf(ours, c.SPIOut) == nil {
				err = fmt.Errorf("culvert has not the CHILD SA of strongSwan's: %s; %v", list[len(list)-1], ours)
			}
			children++
		}
	}
	slices.Sort(list)
	*which = strings.Join(list, ", ")
	switch {
	case err != nil:
		return err
	case len(sas) < 1 || len(sas) > 2 || children < 1 || children > 2 || strings.Count(*which, "ESTABLISHED") != len(sas):
		return fmt.Errorf("strongSwan has %s", *which)
	case len(peers) != len(sas) || len(ours) != 2*children:
		return fmt.Errorf("culvert has %d IKE SAs and %d SAs of ESP, strongSwan %s", len(peers), len(ours), *which)
	}
	return nil
}
