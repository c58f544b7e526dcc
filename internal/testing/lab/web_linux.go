package lab

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// WebAddr is where the servers of Web listen; each machine has its own.
const WebAddr = "127.0.0.1:8080"

// Web serves files on the node: "root.crl" as http://127.0.0.1:8080/root.crl, to
// whoever asks by GET or POST, as CRLs and OCSP responses are asked for.
func (n *Node) Web(files map[string][]byte) {
	n.lab.TB.Helper()
	dir := filepath.Join(n.lab.Dir, n.Name+".web")
	if err := os.Mkdir(dir, 0o700); err != nil {
		n.lab.TB.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			n.lab.TB.Fatal(err)
		}
	}
	p := n.Start("web-"+n.Name, []string{helperEnv + "=web " + dir}, testBinary())
	if err := p.ready(n.lab.TB.Context(), func() error {
		out, err := n.Try("ss", "-Hltn", "sport = :8080")
		if err == nil && strings.TrimSpace(out) == "" {
			err = errors.New("the web server does not listen")
		}
		return err
	}); err != nil {
		n.lab.TB.Fatal(err)
	}
}

// web serves the files of a folder and prints what was asked for.
func web(dir string) error {
	return http.ListenAndServe(WebAddr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.Base(r.URL.Path)))
		fmt.Println(r.Method, r.URL.Path, err)
		if err != nil {
			http.Error(w, "no such file", http.StatusNotFound)
			return
		}
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/ocsp-response")
		}
		_, _ = w.Write(data) // the client may have gone
	}))
}
