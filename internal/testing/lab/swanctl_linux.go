package lab

import (
	"context"
	"strconv"
	"time"
)

// Swanctl is the command line of a charon, wherever that runs.
type Swanctl struct {
	// run runs swanctl and returns its standard output; an error holds all of it.
	run func(ctx context.Context, args ...string) (string, error)
	// sas is viciSAs at the charon's socket.
	sas func(ctx context.Context) ([]byte, error)
}

func (s *Swanctl) swanctl(ctx context.Context, args ...string) error {
	_, err := s.run(ctx, args...)
	return err
}

// InitiateChild negotiates the CHILD SA of that name, and the IKE SA if need be.
func (s *Swanctl) InitiateChild(ctx context.Context, child string) error {
	return s.swanctl(ctx, "--initiate", "--child", child, "--timeout", seconds(ctx))
}

// TerminateChild deletes the CHILD SAs of that name.
func (s *Swanctl) TerminateChild(ctx context.Context, child string) error {
	return s.swanctl(ctx, "--terminate", "--child", child, "--timeout", seconds(ctx))
}

// TerminateIKE deletes the IKE SAs of that connection, and their CHILD SAs with them.
func (s *Swanctl) TerminateIKE(ctx context.Context, ike string) error {
	return s.swanctl(ctx, "--terminate", "--ike", ike, "--timeout", seconds(ctx))
}

// RekeyChild begins to rekey the CHILD SAs of that name; it does not wait.
func (s *Swanctl) RekeyChild(ctx context.Context, child string) error {
	return s.swanctl(ctx, "--rekey", "--child", child)
}

// RekeyIKE begins to rekey the IKE SAs of that connection; it does not wait.
func (s *Swanctl) RekeyIKE(ctx context.Context, ike string) error {
	return s.swanctl(ctx, "--rekey", "--ike", ike)
}

// Reauthenticate begins to make the IKE SAs of that connection anew; it does not
// wait. Whether the old one ends before or after is make_before_break of charon.
func (s *Swanctl) Reauthenticate(ctx context.Context, ike string) error {
	return s.swanctl(ctx, "--rekey", "--ike", ike, "--reauth")
}

// TerminateID deletes the IKE SA of that unique identifier.
func (s *Swanctl) TerminateID(ctx context.Context, id string) error {
	return s.swanctl(ctx, "--terminate", "--ike-id", id, "--timeout", seconds(ctx))
}

// Redirect sends the clients at an address to another gateway (RFC 5685).
func (s *Swanctl) Redirect(ctx context.Context, client, gateway string) error {
	return s.swanctl(ctx, "--redirect", "--peer-ip", client, "--gateway", gateway)
}

// SAs lists the SAs in strongSwan's own words. It asks as swanctl does, and starts no process for it.
func (s *Swanctl) SAs(ctx context.Context) ([]IKESA, error) {
	list, err := s.sas(ctx)
	if err != nil {
		return nil, err
	}
	return parseSAs(list)
}

// ListSAs is the same as a text, for people.
func (s *Swanctl) ListSAs(ctx context.Context) (string, error) {
	return s.run(ctx, "--list-sas", "--pretty")
}

// seconds is what the context leaves, at most 20, for swanctl's --timeout.
func seconds(ctx context.Context) string {
	left := 20
	if end, ok := ctx.Deadline(); ok {
		left = max(1, min(left, int(time.Until(end).Seconds())))
	}
	return strconv.Itoa(left)
}
