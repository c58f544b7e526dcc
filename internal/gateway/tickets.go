package gateway

import (
	"encoding/binary"
	"errors"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/state/store"
)

// The keys of session tickets (RFC 5723) are kept in the state store, so that
// clients resume after a restart as well. The endpoint draws them, says when they
// change, and gets them back at the next start.

// ticketKeys is the bucket: under the ID of a key since when it counts (8 bytes) and
// its secret.
const ticketKeys = "ticket-keys"

// resumes reports whether a peer may resume its IKE SA.
func resumes(c *config.Config) bool {
	for _, p := range c.Peers {
		if !p.Disabled && len(p.Identities) > 0 && p.Profile.Resumption {
			return true
		}
	}
	return false
}

// loadTicketKeys hands the endpoint the keys of an earlier run, where a
// configuration needs them for the first time.
func (g *gateway) loadTicketKeys(c *config.Config) error {
	if g.tickets || !resumes(c) {
		return nil
	}
	s, err := g.state()
	if err != nil {
		return err
	}
	keys, err := readTicketKeys(s)
	if err != nil {
		return err
	}
	g.tickets = true
	g.plane.Input(time.Now(), core.TicketKeys{Keys: keys})
	return nil
}

// keepTicketKeys has the keys written, out of the way of the control loop: the disk may be
// slow. They change a few times a day.
func (g *gateway) keepTicketKeys(keys []core.TicketKey) {
	s, err := g.state()
	failed := func(err error) {
		if err != nil {
			g.log.Error("the keys of session tickets were not written: after a restart no session is resumed", "error", err)
		}
	}
	if err != nil {
		failed(err)
		return
	}
	g.leases.queue <- func(time.Time) {
		failed(writeTicketKeys(s, keys))
		for _, k := range keys {
			k.Secret.Wipe()
		}
	}
}

func readTicketKeys(s store.Store) (keys []core.TicketKey, err error) {
	err = s.View(func(tx store.Tx) error {
		return tx.Each(ticketKeys, func(id, value []byte) error {
			if len(id) == 8 && len(value) == 8+core.TicketKeyLen {
				keys = append(keys, core.TicketKey{ID: [8]byte(id), Since: int64(binary.BigEndian.Uint64(value)), Secret: secret.Bytes(value[8:]).Clone()})
			}
			return nil
		})
	})
	return keys, err
}

// writeTicketKeys makes the bucket have these keys and no others.
func writeTicketKeys(s store.Store, keys []core.TicketKey) error {
	return s.Update(func(tx store.Tx) error {
		var old [][]byte
		err := tx.Each(ticketKeys, func(id, _ []byte) error {
			old = append(old, append([]byte(nil), id...))
			return nil
		})
		for _, id := range old {
			err = errors.Join(err, tx.Delete(ticketKeys, id))
		}
		for _, k := range keys {
			value := append(binary.BigEndian.AppendUint64(nil, uint64(k.Since)), k.Secret...)
			err = errors.Join(err, tx.Put(ticketKeys, k.ID[:], value))
		}
		return err
	})
}

// state opens what outlives the process, once somebody needs it.
func (g *gateway) state() (store.Store, error) {
	if g.store == nil {
		s, err := g.openStore()
		if err != nil {
			return nil, err
		}
		g.store = s
	}
	return g.store, nil
}

// closeState closes it, when nobody needs it any more.
func (g *gateway) closeState() error {
	if g.store == nil {
		return nil
	}
	if err := g.store.Close(); err != nil {
		g.log.Error(err.Error()) // it ends well all the same
	}
	return nil
}
