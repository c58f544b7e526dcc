package gateway

import (
	"encoding/binary"
	"errors"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/state/store"
)

// The keys of session tickets (RFC 5723) are kept in the state store, so that
// clients can resume after a restart. The endpoint generates them, reports
// changes, and gets them back at the next start.

// ticketKeys is the bucket. The key is the ID, the value the time since when it is in use (8 bytes) and
// the secret.
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

// tickets keeps the keys in the state store.
type tickets struct {
	env     serviceEnv
	loaded  bool // the endpoint has the keys of an earlier run
	queue   chan []core.TicketKey
	stopped chan struct{}
}

// ticketQueue is how many changes of the keys can wait. There are a few a day.
const ticketQueue = 16

func newTickets(env serviceEnv) service {
	t := &tickets{env: env, queue: make(chan []core.TicketKey, ticketQueue), stopped: make(chan struct{})}
	go t.run()
	return t
}

func (t *tickets) takes() []any { return []any{core.KeepTicketKeys{}} }

// take has the keys written beside the gateway's goroutine: the disk may be slow.
func (t *tickets) take(out core.Output) { t.queue <- out.(core.KeepTicketKeys).Keys }

func (t *tickets) run() {
	defer close(t.stopped)
	for keys := range t.queue {
		s, err := t.env.state.get()
		if err == nil {
			err = writeTicketKeys(s, keys)
		}
		for _, k := range keys {
			k.Secret.Wipe()
		}
		if err != nil {
			t.env.log.Error("the keys of session tickets could not be written to the state store: after a restart no session can be resumed", "error", err)
		}
	}
}

func (t *tickets) close() {
	close(t.queue)
	<-t.stopped
}

// part hands the endpoint the keys of an earlier run, where a configuration needs them
// for the first time.
func (t *tickets) part() part {
	var keys []core.TicketKey
	read := false
	return part{
		name: "session tickets",
		prepare: func(c *change) error {
			if t.loaded || !resumes(c.next) {
				return nil
			}
			s, err := t.env.state.get()
			if err == nil {
				keys, err = readTicketKeys(s)
			}
			read = err == nil
			return err
		},
		commit: func(*change) {
			if read {
				t.loaded = true
				t.env.input(core.TicketKeys{Keys: keys})
			}
		},
		revert: func(*change) {
			for _, k := range keys {
				k.Secret.Wipe()
			}
		},
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
