package resolver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who is asked by others is on no link and not on this host; the gateway itself asks also a server on a link. The first file
// that has one counts, however few it has.
func TestServersOfThisHost(t *testing.T) {
	was := files
	defer func() { files = was }()
	dir := t.TempDir()
	for i, c := range []struct {
		texts             []string // of the files; "": there is none
		servers, upstream string
	}{
		{[]string{"", ""}, "[]", "[]"},
		{[]string{"nameserver 127.0.0.53\n", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"}, "[192.0.2.1 192.0.2.2]", "[192.0.2.1:53 192.0.2.2:53]"},
		{[]string{"nameserver 192.0.2.1\n", "nameserver 192.0.2.2\nnameserver 192.0.2.3\n"}, "[192.0.2.1]", "[192.0.2.1:53]"},
		{[]string{"", "nameserver fe80::1%eth0\nnameserver 2001:db8::1\n"}, "[2001:db8::1]", "[[fe80::1%eth0]:53 [2001:db8::1]:53]"},
		{[]string{"nameserver fe80::1%eth0\n", "nameserver ::1\nnameserver 2001:db8::1\n"}, "[2001:db8::1]", "[[fe80::1%eth0]:53]"},
	} {
		files = nil
		for k, text := range c.texts {
			path := filepath.Join(dir, fmt.Sprint(i, "-", k))
			files = append(files, path)
			if text != "" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := fmt.Sprint(Servers()); got != c.servers {
			t.Errorf("%q: servers %s, want %s", c.texts, got, c.servers)
		}
		if got := fmt.Sprint(upstream()); got != c.upstream {
			t.Errorf("%q: upstream %s, want %s", c.texts, got, c.upstream)
		}
	}
}

// What is no line of a server, or has none, is passed over.
func TestNameservers(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "\n \n": "[]", "nameserver\n": "[]", "nameserver \nnameserver 192.0.2.1": "[192.0.2.1]", "search 192.0.2.9\nnameserver 192.0.2.1\n": "[192.0.2.1]",
		"192.0.2.9\n": "[]", "nameserver x\nnameserver ::ffff:192.0.2.1\n": "[192.0.2.1]",
		"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n": "[192.0.2.1 192.0.2.2 192.0.2.3]",
	} {
		if got := fmt.Sprint(nameservers(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// However many are silent, the next one is tried.
func TestStaggerPassesAllWhoAreSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	silent := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
	good := func(ctx context.Context) (int, error) { return 4, ctx.Err() } // nil, as long as there is time
	attempts := []func(context.Context) (int, error){silent, silent, silent, good}
	if n, err := stagger(ctx, time.Millisecond, attempts, func(int) {}); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A name that there is not is an error, and no connection.
func TestDialOfNoName(t *testing.T) {
	without, _ := dnsServer(t)
	if c, err := asking(without).DialContext(t.Context(), "tcp", named+":80"); c != nil || !noSuchName(err) {
		t.Errorf("%v, %v", c, err)
	}
}
