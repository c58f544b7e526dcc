package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

// callTimeout bounds one call; a reload that resolves names is the slowest.
const callTimeout = 60 * time.Second

// ErrNotRunning: nobody answers at the control socket.
var ErrNotRunning = errors.New("culvert is not running or its control socket is elsewhere: start `culvert run -c FILE` or give --control PATH")

// ErrPermission: the control socket belongs to another user.
var ErrPermission = errors.New("not allowed to open the control socket: run this as root (sudo) or as the user that culvert runs as")

// Client asks a running gateway. Every method wraps ErrNotRunning or
// ErrPermission where they apply; what the gateway itself refuses is an error
// with the gateway's words.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the gateway whose control socket is path. It
// does not connect yet.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Timeout = callTimeout + 5*time.Second // the server's word comes first
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, path)
		},
	}
	return c
}

// Policies is "policy print".
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	return get[[]Policy](ctx, c, "/v1/policy", false)
}

// Peers is "peer print".
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	return get[[]Peer](ctx, c, "/v1/peer", false)
}

// Identities is "identity print". Secrets are hidden unless showSecrets is set.
func (c *Client) Identities(ctx context.Context, showSecrets bool) ([]Identity, error) {
	return get[[]Identity](ctx, c, "/v1/identity", showSecrets)
}

// Profiles is "profile print".
func (c *Client) Profiles(ctx context.Context) ([]Profile, error) {
	return get[[]Profile](ctx, c, "/v1/profile", false)
}

// Proposals is "proposal print".
func (c *Client) Proposals(ctx context.Context) ([]Proposal, error) {
	return get[[]Proposal](ctx, c, "/v1/proposal", false)
}

// ModeConfigs is "mode-config print".
func (c *Client) ModeConfigs(ctx context.Context) ([]ModeConfig, error) {
	return get[[]ModeConfig](ctx, c, "/v1/mode-config", false)
}

// Pools is "pool print".
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	return get[[]Pool](ctx, c, "/v1/pool", false)
}

// PolicyGroups is "policy group print".
func (c *Client) PolicyGroups(ctx context.Context) ([]PolicyGroup, error) {
	return get[[]PolicyGroup](ctx, c, "/v1/policy-group", false)
}

// ActivePeers is "active-peers print".
func (c *Client) ActivePeers(ctx context.Context) ([]ActivePeer, error) {
	return get[[]ActivePeer](ctx, c, "/v1/active-peers", false)
}

// InstalledSAs is "installed-sa print". Keys are hidden unless showSecrets is set.
func (c *Client) InstalledSAs(ctx context.Context, showSecrets bool) ([]InstalledSA, error) {
	return get[[]InstalledSA](ctx, c, "/v1/installed-sa", showSecrets)
}

// Offloads is "offload print".
func (c *Client) Offloads(ctx context.Context) ([]Offload, error) {
	return get[[]Offload](ctx, c, "/v1/offload", false)
}

// Statistics is "statistics print".
func (c *Client) Statistics(ctx context.Context) ([]Statistic, error) {
	return get[[]Statistic](ctx, c, "/v1/statistics", false)
}

// Version is that of the running gateway, which an upgrade may have left behind.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return get[Version](ctx, c, "/v1/version", false)
}

// Flush deletes all CHILD SAs and returns how many there were.
func (c *Client) Flush(ctx context.Context) (int, error) {
	return command(ctx, c, "/v1/installed-sa/flush", args{})
}

// KillConnections deletes all IKE SAs and returns how many there were.
func (c *Client) KillConnections(ctx context.Context) (int, error) {
	return command(ctx, c, "/v1/active-peers/kill-connections", args{})
}

// Redirect sends clients to another gateway.
func (c *Client) Redirect(ctx context.Context, q RedirectQuery) (report RedirectReport, err error) {
	return report, c.do(ctx, http.MethodPost, "/v1/active-peers/redirect", args{Redirect: &q}, &report)
}

// Rekey rekeys all IKE SAs, or all CHILD SAs, and returns how many.
func (c *Client) Rekey(ctx context.Context, children bool) (int, error) {
	return command(ctx, c, "/v1/rekey", args{Children: children})
}

// Reload makes the gateway read its configuration again. If it is refused, nothing changes.
func (c *Client) Reload(ctx context.Context) (report ReloadReport, err error) {
	return report, c.do(ctx, http.MethodPost, "/v1/reload", args{}, &report)
}

// AddSA installs a CHILD SA with keys given by hand.
func (c *Client) AddSA(ctx context.Context, sa ManualSA) (warnings []string, err error) {
	return warnings, c.do(ctx, http.MethodPost, "/v1/sa/add", args{SA: &sa}, &warnings)
}

// DeleteSA removes a CHILD SA that AddSA installed, by its inbound SPI.
func (c *Client) DeleteSA(ctx context.Context, spi uint32) error {
	return c.do(ctx, http.MethodPost, "/v1/sa/delete", args{SPI: spi}, &struct{}{})
}

// A Client is a Backend at the other end of the socket.
var _ Backend = (*Client)(nil)

func get[T any](ctx context.Context, c *Client, path string, showSecrets bool) (v T, err error) {
	if showSecrets {
		path += "?show-secrets=true"
	}
	return v, c.do(ctx, http.MethodGet, path, args{}, &v)
}

func command(ctx context.Context, c *Client, path string, a args) (int, error) {
	var answer Count
	err := c.do(ctx, http.MethodPost, path, a, &answer)
	return answer.Count, err
}

func (c *Client) do(ctx context.Context, method, path string, a args, into any) error {
	var body []byte
	if method == http.MethodPost {
		var err error
		if body, err = json.Marshal(a); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://culvert"+path, bytes.NewReader(body))
	if err != nil {
		return err // never: the paths stand in this file
	}
	w, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer w.Body.Close()
	d := json.NewDecoder(w.Body)
	if w.StatusCode != http.StatusOK {
		var f failure
		if d.Decode(&f) != nil || f.Error == "" {
			return fmt.Errorf("%s answered %s to %s: is it a culvert of the same version? see `culvert version`", c.path, w.Status, path)
		}
		return errors.New(f.Error)
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s answered something else than culvert does: %w", c.path, err)
	}
	return nil
}

func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w", c.path, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", c.path, ErrPermission)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: culvert does not answer in time; its log tells what it is doing", c.path)
	}
	return fmt.Errorf("%s: %w", c.path, err)
}
