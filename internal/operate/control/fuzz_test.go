package control

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest: whatever is sent to the control socket has an answer, which is JSON, and
// nobody sees a secret who did not ask for it in so many words.
func FuzzRequest(f *testing.F) {
	f.Add(true, "/v1/sa/add", []byte(`{"sa":{"policy":1,"esp":{"spi-in":4097,"spi-out":4098,"enc-algorithm":"aes-128-gcm"}}}`))
	f.Add(true, "/v1/explain/packet", []byte(`{"packet":{"src":"10.1.0.1","dst":"10.2.0.1","protocol":"udp"}}`))
	f.Add(true, "/v1/redirect", []byte(`{"redirect":{"to":"192.0.2.1","within":5}}`))
	f.Add(true, "/v1/reload", []byte{})
	f.Add(false, "/v1/identity?show-secrets=false", []byte{})
	f.Add(false, "/v1/installed-sa?show-secrets=maybe", []byte{})
	m := sample()
	h := Handler(m)
	var secrets []string
	for _, i := range m.identities {
		secrets = append(secrets, i.Secret, i.Password, i.PPKSecret)
	}
	for _, sa := range m.installed {
		secrets = append(secrets, sa.AuthKey, sa.EncKey)
	}
	f.Fuzz(func(t *testing.T, post bool, target string, body []byte) {
		m.done = nil
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		r := &http.Request{Method: http.MethodGet, URL: u, Host: "culvert", Header: http.Header{}, RequestURI: target, Body: http.NoBody}
		if post {
			r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
			r.URL, r.RequestURI = u, target
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		text := w.Body.String()
		if strings.Contains(w.Header().Get("Content-Type"), "json") && !json.Valid([]byte(text)) {
			t.Fatalf("%s: %q", target, text)
		}
		if asked := u.Query().Get("show-secrets"); asked != "" && asked != "false" {
			return
		}
		for _, s := range secrets {
			if s != "" && strings.Contains(text, s) && !strings.Contains(target, s) && !bytes.Contains(body, []byte(s)) {
				t.Fatalf("%s shows %q", target, s)
			}
		}
	})
}
