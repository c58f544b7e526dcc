package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// start serves m on a socket of its own until the test ends.
func start(t *testing.T, m *memory) (path string) {
	t.Helper()
	path = endpoint(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, m) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func same[T any](t *testing.T, name string, got []T, err error, want []T) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
	}
}

func TestRowsArriveAsTheyWere(t *testing.T) {
	m, ctx := sample(), context.Background()
	c := NewClient(start(t, m))
	policies, err := c.Policies(ctx)
	same(t, "policies", policies, err, m.policies)
	peers, err := c.Peers(ctx)
	same(t, "peers", peers, err, m.peers)
	profiles, err := c.Profiles(ctx)
	same(t, "profiles", profiles, err, m.profiles)
	proposals, err := c.Proposals(ctx)
	same(t, "proposals", proposals, err, m.proposals)
	active, err := c.ActivePeers(ctx)
	same(t, "active peers", active, err, m.active)
	statistics, err := c.Statistics(ctx)
	same(t, "statistics", statistics, err, m.statistics)
	offloads, err := c.Offloads(ctx)
	same(t, "offload", offloads, err, m.offloads)
	identities, err := c.Identities(ctx, true)
	same(t, "identities with secrets", identities, err, m.identities)
	installed, err := c.InstalledSAs(ctx, true)
	same(t, "installed SAs with keys", installed, err, m.installed)
	version, err := c.Version(ctx)
	if err != nil || version != ReadVersion() || version.Go == "" {
		t.Errorf("version: %+v, %v", version, err)
	}
}

func TestSecretsStayHiddenUnlessAskedFor(t *testing.T) {
	m := sample()
	path := start(t, m)
	for _, menu := range []string{"/v1/identity", "/v1/installed-sa", "/v1/installed-sa?show-secrets=false"} {
		status, body := raw(t, path, "GET", menu, "")
		if status != http.StatusOK {
			t.Fatalf("%s: status %d", menu, status)
		}
		for _, secret := range []string{"thisisnotasecurepsk", "hunter2", "0x00ff", "aabb", "ccdd", "auth-key", "enc-key\"", `"secret"`, `"password"`} {
			if strings.Contains(body, secret) {
				t.Errorf("%s shows %s: %s", menu, secret, body)
			}
		}
	}
	if m.identities[0].Secret == "" || m.installed[0].EncKey == "" {
		t.Error("hiding changed the backend's own rows")
	}
}

func TestCommandsReachTheBackend(t *testing.T) {
	m, ctx := sample(), context.Background()
	c := NewClient(start(t, m))
	for _, step := range []struct {
		do   func() (int, error)
		want int
	}{
		{func() (int, error) { return c.Flush(ctx) }, 1},
		{func() (int, error) { return c.KillConnections(ctx) }, 1},
		{func() (int, error) { return c.Rekey(ctx, true) }, 1},
		{func() (int, error) { return c.Rekey(ctx, false) }, 1},
	} {
		if n, err := step.do(); err != nil || n != step.want {
			t.Errorf("got %d, %v; want %d", n, err, step.want)
		}
	}
	if r, err := c.Redirect(ctx, RedirectQuery{To: "gw2", Peer: "p", Within: time.Second}); err != nil || r != (RedirectReport{1, 7}) {
		t.Errorf("redirect: %+v, %v", r, err)
	}
	if w, err := c.AddSA(ctx, ManualSA{Policy: 3, ESP: &ManualKeys{SPIIn: 4097}}); err != nil || !slices.Equal(w, []string{"mind the key"}) {
		t.Errorf("sa add: %q, %v", w, err)
	}
	if err := c.DeleteSA(ctx, 4097); err != nil {
		t.Error("sa delete:", err)
	}
	report, err := c.Reload(ctx)
	if err != nil || !reflect.DeepEqual(report, m.report) {
		t.Errorf("reload: %+v, %v", report, err)
	}
	if status, body := raw(t, c.path, "POST", "/v1/installed-sa/flush", ""); status != http.StatusOK {
		t.Errorf("flush without a body: %d, %s", status, body)
	}
	if want := []string{"flush", "kill", "rekey children", "rekey peers", "redirect {gw2 p 1s}", "add 3 4097", "delete 4097", "reload", "flush"}; !slices.Equal(m.done, want) {
		t.Errorf("done %q, want %q", m.done, want)
	}
}

func TestTheBackendsWordsReachTheUser(t *testing.T) {
	m, ctx := sample(), context.Background()
	m.fault = errFault
	c := NewClient(start(t, m))
	if _, err := c.Reload(ctx); err == nil || err.Error() != errFault.Error() {
		t.Errorf("reload: %v", err)
	}
	if _, err := c.InstalledSAs(ctx, false); err == nil || err.Error() != errFault.Error() {
		t.Errorf("installed SAs: %v", err)
	}
	if _, err := c.Flush(ctx); err == nil || err.Error() != errFault.Error() {
		t.Errorf("flush: %v", err)
	}
}

func TestEmptyTableIsAnEmptyArray(t *testing.T) {
	path := start(t, &memory{})
	for _, menu := range []string{"policy", "peer", "identity", "profile", "proposal", "active-peers", "installed-sa", "offload", "statistics"} {
		if status, body := raw(t, path, "GET", "/v1/"+menu, ""); status != http.StatusOK || body != "[]\n" {
			t.Errorf("%s: %d %q", menu, status, body)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	m := sample()
	path := start(t, m)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"body too large", "POST", "/v1/rekey", `{"children":` + strings.Repeat(" ", maxRequest) + `true}`, http.StatusRequestEntityTooLarge, "too large"},
		{"header too large", "GET", "/v1/policy?x=" + strings.Repeat("x", 2*maxRequest), "", http.StatusRequestHeaderFieldsTooLarge, ""},
		{"not JSON", "POST", "/v1/installed-sa/flush", "flush!", http.StatusBadRequest, "request"},
		{"a field nobody knows", "POST", "/v1/rekey", `{"kid":true}`, http.StatusBadRequest, "kid"},
		{"two values", "POST", "/v1/installed-sa/flush", `{}{}`, http.StatusBadRequest, "more than one"},
		{"wrong type", "POST", "/v1/rekey", `{"children":"yes"}`, http.StatusBadRequest, "children"},
		{"neither true nor false", "GET", "/v1/identity?show-secrets=please", "", http.StatusBadRequest, "true or false"},
		{"a command by GET", "GET", "/v1/installed-sa/flush", "", http.StatusMethodNotAllowed, ""},
		{"a menu by POST", "POST", "/v1/policy", "{}", http.StatusMethodNotAllowed, ""},
		{"a redirect to nowhere", "POST", "/v1/active-peers/redirect", "{}", http.StatusInternalServerError, "where to?"},
		{"an SA without any", "POST", "/v1/sa/add", "{}", http.StatusInternalServerError, "which?"},
		{"no such call", "GET", "/v1/key", "", http.StatusNotFound, ""},
	} {
		status, body := raw(t, path, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %q, want %d with %q", c.name, status, body, c.status, c.says)
		}
	}
	if len(m.done) != 0 {
		t.Errorf("a refused request was carried out: %q", m.done)
	}
	if _, err := NewClient(path).Policies(context.Background()); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := Listen(endpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Serve(ctx, l, &memory{}); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if conn, err := dial(context.Background(), l.Addr().String()); err == nil {
		conn.Close()
		t.Error("still answers after Serve returned")
	}
}

func TestServeTellsThatItsListenerFailed(t *testing.T) {
	l, err := Listen(endpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(context.Background(), l, &memory{}); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Serve: %v", err)
	}
}

// A call that takes too long is ended by the server, whose words say more.
func TestClientWaitsLongerThanTheServer(t *testing.T) {
	if wait := NewClient("").http.Timeout; wait <= callTimeout {
		t.Errorf("the client waits for %v, the server takes up to %v", wait, callTimeout)
	}
}

func TestClientSaysWhatToDo(t *testing.T) {
	_, err := NewClient(endpoint(t)).Policies(context.Background())
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("nobody there: %v", err)
	}

	path := endpoint(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stranger := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusTeapot)
		}
		if r.URL.Path == "/v1/rekey" {
			_, _ = io.WriteString(w, "{}")
			return
		}
		_, _ = io.WriteString(w, "hello")
	})}
	go func() { _ = stranger.Serve(l) }()
	defer stranger.Close()
	c := NewClient(path)
	if _, err := c.Policies(context.Background()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a stranger's answer: %v", err)
	}
	if _, err := c.Flush(context.Background()); err == nil || !strings.Contains(err.Error(), "same version") {
		t.Errorf("a stranger's refusal: %v", err)
	}
	if _, err := c.Rekey(context.Background(), true); err == nil || !strings.Contains(err.Error(), "same version") {
		t.Errorf("a stranger's refusal without a reason: %v", err)
	}
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	if _, err := c.Policies(ctx); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("out of time: %v", err)
	}
}

// raw sends one request with a client that knows nothing.
func raw(t *testing.T, path, method, url, body string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
	}}
	r, err := http.NewRequest(method, "http://culvert"+url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(b)
}

// TestKeysAreTheManualsNames holds every row to the property names of the
// manual's tables, in the order of the columns; the names after "ours" are not
// in the manual.
func TestKeysAreTheManualsNames(t *testing.T) {
	for _, c := range []struct {
		row  any
		keys string
	}{
		{Policy{}, "number template disabled dynamic invalid active default group src-address src-port dst-address dst-port protocol action level " +
			"ipsec-protocols tunnel sa-src-address sa-dst-address proposal peer ph2-count ph2-state comment"},
		{Peer{}, "number disabled dynamic responder name address local-address port natt-port profile exchange-mode childless passive on-demand send-initial-contact redirect redirect-above comment"},
		{Identity{Secret: "s", Password: "p", PPKSecret: "k"}, "number disabled dynamic peer auth-method eap-methods my-id remote-id match-by certificate " +
			"remote-certificate key remote-key username password secret ppk-id ppk-secret generate-policy policy-template-group mode-config redirect notrack-chain comment"},
		{Profile{}, "number default name hash-algorithm prf-algorithm enc-algorithm dh-group lifetime lifebytes proposal-check nat-traversal " +
			"dpd-interval dpd-maximum-failures comment"},
		{Proposal{}, "number disabled default name auth-algorithms enc-algorithms lifetime lifebytes pfs-group esn replay-window tfc tfc-dummies comment"},
		{ModeConfig{}, "number disabled default name responder address address-pool address-prefix-length split-include system-dns static-dns comment"},
		{Pool{}, "number disabled name ranges next-pool used kept comment"},
		{PolicyGroup{}, "number disabled default name comment"},
		{ActivePeer{}, "number responder natt-peer resumed id user peer local-address remote-address dynamic-address dns state side uptime last-seen ph2-total " +
			"rx-bytes rx-packets tx-bytes tx-packets my-id enc-algorithm hash-algorithm prf-algorithm dh-group rekey-in"},
		{InstalledSA{AuthKey: "a", EncKey: "e"}, "number hw-aead AH ESP spi src-address dst-address state auth-algorithm enc-algorithm enc-key-size " +
			"auth-key enc-key add-lifetime addtime expires-in current-bytes current-packets replay peer policy"},
	} {
		b, err := json.Marshal(c.row)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(keys(t, b), " "); got != c.keys {
			t.Errorf("%T:\n got %s\nwant %s", c.row, got, c.keys)
		}
	}
}

// keys returns the keys of a flat JSON object in their order.
func keys(t *testing.T, object []byte) (names []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil { // the brace
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func TestStatisticNames(t *testing.T) {
	names := StatisticNames()
	if len(names) != 25 || names[0] != "in-errors" || names[24] != "out-policy-errors" {
		t.Errorf("%d names: %q", len(names), names)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 25 {
		t.Errorf("a name stands twice: %q", names)
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{SPI(0x0abc1234), "0x0ABC1234"},
		{Duration(0), "0s"},
		{Duration(-time.Second), "0s"},
		{Duration(999 * time.Millisecond), "0s"},
		{Duration(30 * time.Minute), "30m"},
		{Duration(26*time.Hour + 3*time.Minute + 4*time.Second), "1d2h3m4s"},
		{Duration(24*time.Hour + time.Second), "1d1s"},
		{Lifetime{Soft: 1440, Hard: 1800}.String(), "24m/30m"},
		{InSeconds(90*time.Minute + time.Second - 1).String(), "1h30m"},
		{InSeconds(-time.Hour).String(), "0s"},
		{DPDInterval(120).String(), "2m"},
		{DPDInterval(0).String(), "disable-dpd"},
		{Time(time.Date(2024, 3, 1, 13, 4, 5, 6, time.UTC)), "2024-03-01 13:04:05"},
		{Version{Version: "v1.2.3", Revision: "abc", Modified: true, Time: "2024-03-01T13:04:05Z", Go: "go1.26.0", Platform: "linux/amd64"}.String(),
			"culvert v1.2.3 revision abc (modified) 2024-03-01T13:04:05Z go1.26.0 linux/amd64"},
		{Version{Version: "(devel)", Go: "go1.26.0", Platform: "linux/amd64"}.String(), "culvert (devel) go1.26.0 linux/amd64"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func endpoint(t *testing.T) string {
	t.Helper()
	return endpointIn(t, filepath.Join(t.TempDir(), "c"))
}

// A script that reads JSON gets durations as seconds, of every row that has one.
func TestDurationsInJSONAreSeconds(t *testing.T) {
	for _, c := range []struct {
		row  any
		want []string
	}{
		{Profile{Lifetime: 86400, DPDInterval: 120}, []string{`"lifetime":86400`, `"dpd-interval":120`}},
		{Profile{}, []string{`"dpd-interval":0`}},
		{Proposal{Lifetime: 1800}, []string{`"lifetime":1800`}},
		{ActivePeer{Uptime: 3720, LastSeen: 3}, []string{`"uptime":3720`, `"last-seen":3`}},
		{InstalledSA{AddLifetime: Lifetime{1440, 1800}, ExpiresIn: 720}, []string{`"add-lifetime":{"soft":1440,"hard":1800}`, `"expires-in":720`}},
		{PeerSA{Since: 2}, []string{`"since":2`}},
		{Attempt{Ago: 12}, []string{`"ago":12`}},
	} {
		b, err := json.Marshal(c.row)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(string(b), want) {
				t.Errorf("%T has no %s: %s", c.row, want, b)
			}
		}
	}
}
