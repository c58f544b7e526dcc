package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	pathpkg "path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "culvert/"

// source is one parsed file of the house. room is its folder below the root.
type source struct {
	path, room string
	test       bool
	fset       *token.FileSet
	ast        *ast.File
}

func (s *source) line(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports are the paths that s imports, by the name they have in the file.
func (s *source) imports() map[string]*ast.ImportSpec {
	out := map[string]*ast.ImportSpec{}
	for _, spec := range s.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			out[path] = spec
		}
	}
	return out
}

// parse takes the path of a file below the root, with slashes.
func parse(path, code string) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, code, parser.ParseComments)
	return &source{path, pathpkg.Dir(path), strings.HasSuffix(path, "_test.go"), fset, file}, err
}

func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), string(code))
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d files found below %s", len(all), dir)
	}
	return all
}

// report is called with each breach of a rule.
type report func(format string, args ...any)

var rules = map[string]func(*source, report){
	"who may import whom":                 whoMayImportWhom,
	"ike is a function of its inputs":     ikeIsAFunctionOfItsInputs,
	"libraries have their place":          librariesHaveTheirPlace,
	"compile touches no host":             compileTouchesNoHost,
	"the view changes nothing":            viewChangesNothing,
	"nothing is left unfinished":          nothingIsLeftUnfinished,
	"no path leads out of the repository": noPathLeadsOut,
	"test support stays in tests":         testSupportStaysInTests,
	"internal packages are in groups":     internalPackagesAreInGroups,
	"exported names are documented":       everyExportedNameHasADocComment,
}

func TestHouse(t *testing.T) {
	all := sources(t)
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for _, s := range all {
				rule(s, t.Errorf)
			}
		})
	}
}

// Each rule refuses what it is there for, and nothing beside it.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct {
		path, code string
		want       string // a part of the only breach; "" for none
	}{
		{"esp/a.go", `import "culvert/crypto/aead"`, ""},
		{"esp/a.go", `import "culvert/sad"`, "esp may import"},
		{"internal/testing/lab/a.go", `import "culvert/ike/v2"`, ""},
		{"internal/demo/a.go", `import "culvert/internal/testing/simnet"`, ""},
		{"internal/demo/a.go", `import "culvert/internal/testing/lab"`, "for tests"},
		{"sad/a_test.go", `import "culvert/internal/testing/vectors"`, ""},
		{"internal/wire/a.go", ``, "one of the groups"},
		{"spd/selector/a.go", `import "culvert/internal/packet/wire"`, "spd/selector may import"},
		{"spd/selector/a_test.go", `import "culvert/internal/packet/wire"`, ""},
		{"spd/a.go", `import "culvert/internal/packet/wire"`, ""},
		{"crypto/dh/a.go", `import "culvert/crypto/suite"`, ""},
		{"crypto/dh/a.go", `import "culvert/esp"`, "crypto may import"},
		{"cmd/culvert/a.go", `import "culvert/sad"`, "cmd may import"},
		{"ike/sa/a.go", `import "culvert/ike/v2"`, "understood and tested alone"},
		{"ike/sa/a.go", `import "culvert/ike/message"`, "understood and tested alone"},
		{"ike/v2/a.go", `import "culvert/ike/sa"`, ""},
		{"ike/v2/a.go", `import "net"`, "sockets"},
		{"ike/v2/a.go", `import "net/netip"`, ""},
		{"ike/a.go", `import "os"`, "environment"},
		{"ike/a.go", `import "sync"`, "no locks"},
		{"ike/a.go", `import "crypto/rand"`, "randomness"},
		{"ike/a.go", `import "math/rand/v2"; var x = rand.New(rand.NewPCG(1, 2)).IntN(3)`, ""},
		{"ike/a.go", `import "math/rand/v2"; var x = rand.IntN(3)`, "global generator"},
		{"ike/a.go", `import "time"; var x = time.Now()`, "reads a clock"},
		{"ike/a.go", `import "time"; var x = time.Second`, ""},
		{"ike/a.go", `func f() { go f() }`, "goroutine"},
		{"ike/a.go", `var c chan int`, "channel"},
		{"ike/a_test.go", `func f() { go f() }`, ""},
		{"tun/a.go", `import "C"`, "cgo"},
		{"tun/a.go", `import "github.com/google/gopacket/layers"`, "oracle"},
		{"tun/a_test.go", `import "github.com/google/gopacket/layers"`, ""},
		{"tun/a.go", `import "testing"`, "belongs into tests"},
		{"internal/gateway/a.go", `import "github.com/alecthomas/kong"`, "flags"},
		{"internal/gateway/compile/a.go", `import "culvert/internal/packet/datapath"`, "internal/gateway/compile may import"},
		{"internal/gateway/compile/a.go", `import "os"`, "pure function"},
		{"internal/gateway/compile/a.go", `import "culvert/tun"; var x tun.Plan`, ""},
		{"internal/gateway/compile/a.go", `import "culvert/tun"; var x tun.Device`, "only Plan and Route"},
		{"internal/gateway/view/a.go", `import "culvert/internal/gateway"`, "internal/gateway/view may import"},
		{"internal/gateway/view/a.go", `import "culvert/internal/gateway/plane"`, "internal/gateway/view may import"},
		{"internal/gateway/view/a.go", `import "culvert/ike"`, "internal/gateway/view may import"},
		{"internal/gateway/view/a.go", `import "culvert/tun"; var x tun.Prober`, ""},
		{"internal/gateway/view/a.go", `import "culvert/tun"; var x tun.Host`, "the view only reads"},
		{"internal/gateway/view/a.go", `import "culvert/sad"; var x *sad.Table`, "the view only reads"},
		{"internal/gateway/view/a.go", `import "culvert/sad"; var x = (*sad.Child).TakeEvents`, "the view only reads"},
		{"internal/gateway/view/a.go", `import "culvert/sad"; func f(c *sad.Child) uint32 { return c.Inbound().SPI() }`, ""},
		{"internal/gateway/view/a_test.go", `import "culvert/sad"; var x *sad.Table`, ""},
		{"internal/gateway/a.go", `import "culvert/sad"; var x *sad.Table`, ""},
		{"cmd/culvert/a.go", `import "github.com/alecthomas/kong"`, ""},
		{"tun/a.go", "// TO" + "DO: more", "finish it"},
		{"tun/a.go", `var p = "/ho` + `me/me/x"`, "one machine"},
		{"tun/a.go", `var p = "/etc/culvert"`, ""},
		{"tun/a.go", `var p = "../sha` + `red/vectors"`, "only tests"},
		{"tun/a_test.go", `var p = "../sha` + `red/vectors"`, ""},
	} {
		s, err := parse(c.path, "package p\n"+c.code)
		if err != nil {
			t.Fatalf("%s: %v", c.code, err)
		}
		var got []string
		for _, rule := range rules {
			rule(s, func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) })
		}
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s in %s: %q, want %q", c.code, c.path, got, c.want)
		}
	}
}

// within says whether the folder room is one of rooms or below one.
func within(room string, rooms ...string) bool {
	for _, r := range rooms {
		if room == r || strings.HasPrefix(room, r+"/") {
			return true
		}
	}
	return false
}

var dataPlane = []string{"spd", "sad", "esp", "ah", "tun", "internal/packet/datapath", "internal/packet/wire", "internal/packet/underlay", "internal/packet/reassembly", "internal/packet/poll"}

// doors is what a room may import of ours besides itself. Rooms without a row may
// import anything that the other rules allow.
var doors = map[string][]string{
	"config":                     {"crypto/suite", "crypto/secret", "crypto/pki", "crypto/sign", "internal/state/keys"},
	"crypto":                     {"crypto"},
	"spd/selector":               {},
	"spd":                        {"spd/selector", "internal/packet/wire"},
	"esp":                        {"crypto", "internal/packet/wire"},
	"ah":                         {"crypto", "internal/packet/wire"},
	"sad":                        {"esp", "ah", "spd/selector", "crypto", "internal/packet/wire"},
	"tun":                        {"internal/host/nlwatch", "internal/packet/poll", "internal/packet/wire"},
	"ike":                        {"ike", "crypto", "spd/selector"},
	"ike/isakmp":                 {"ike/message", "spd/selector"},
	"ike/sa":                     {"ike/core", "ike/auth", "crypto", "spd/selector"},
	"ike/v1":                     {"ike/sa", "ike/core", "ike/auth", "ike/isakmp", "ike/message", "crypto", "spd/selector"},
	"ike/v2":                     {"ike/sa", "ike/core", "ike/auth", "ike/message", "crypto", "spd/selector"},
	"internal/state/keys":        {},
	"internal/packet/wire":       {},
	"internal/host/guard":        {"internal/host/nlwatch"},
	"internal/host/nlwatch":      {},
	"internal/host/addresses":    {"config"},
	"internal/host/resolver":     {},
	"internal/host/fileowner":    {"config"},
	"internal/packet/poll":       {},
	"internal/packet/underlay":   {"internal/packet/poll", "internal/packet/wire"},
	"internal/packet/reassembly": {"internal/packet/wire"},
	"internal/packet/datapath":   {"tun", "internal/packet/underlay", "internal/packet/wire", "internal/packet/reassembly", "spd", "sad", "esp", "ah", "crypto"},
	"internal/gateway/compile":   {"config", "crypto/pki", "crypto/suite", "ike/core", "ike/auth", "internal/packet/wire", "spd", "tun"},
	"internal/gateway/view":      {"config", "crypto/secret", "ike/core", "internal/gateway/compile", "internal/host/guard", "internal/host/hardware", "internal/operate/control", "internal/packet/datapath", "internal/packet/wire", "sad", "spd", "tun"},
	"internal/gateway/plane":     {"config", "esp", "ike/core", "internal/gateway/compile", "internal/packet/datapath", "internal/packet/underlay", "internal/packet/wire", "sad", "spd", "tun"},
	"cmd":                        {"internal/gateway", "internal/operate/control", "internal/demo", "internal/host/hardware", "internal/state/keys", "config", "crypto/suite"},
}

// door is the row of the longest folder around room.
func door(room string) (name string, ok bool) {
	for r := range doors {
		if within(room, r) && len(r) >= len(name) {
			name, ok = r, true
		}
	}
	return name, ok
}

func whoMayImportWhom(s *source, report report) {
	if s.test {
		return
	}
	name, ok := door(s.room)
	for path, spec := range s.imports() {
		ours, is := strings.CutPrefix(path, module)
		if !is {
			continue
		}
		if within(s.room, dataPlane...) && within(ours, "ike") {
			report("%s imports %s: the data plane runs without the daemon, so that a packet never waits for a handshake; what both need goes into spd/selector or is handed in", s.line(spec), path)
		}
		if ok && !within(ours, append(doors[name], name)...) {
			report("%s imports %s: %s may import of ours only %v, so that it can be understood and tested alone; hand the rest in as a value", s.line(spec), path, name, doors[name])
		}
	}
}

// Compiling is a function of the configuration: a recording compiles again to the same.
func compileTouchesNoHost(s *source, report report) {
	if s.test || !within(s.room, "internal/gateway/compile") {
		return
	}
	for path, spec := range s.imports() {
		if slices.Contains([]string{"net", "os", "sync", "crypto/rand", "math/rand/v2"}, path) {
			report("%s imports %s: compile is a pure function of the configuration", s.line(spec), path)
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "tun" && sel.Sel.Name != "Plan" && sel.Sel.Name != "Route" {
				report("%s uses tun.%s: compile knows of tun only Plan and Route, not the device nor the host", s.line(n), sel.Sel.Name)
			}
		}
		return true
	})
}

// viewReads are the names that the view may use of packages that have state.
var viewReads = map[string][]string{
	"sad":   {"Child", "Row", "Endpoint", "StateMature", "StateDead", "StateDying", "StateLarval", "NoLine", "ProtocolESP", "ProtocolAH"},
	"tun":   {"Prober", "Query", "Decision"},
	"guard": {"Explainer", "Packet", "Verdict", "Counts"},
	"spd":   {"Policy", "Encrypt", "Discard", "None"},
}

// methodsThatChange are those of CHILD SAs and what belongs to them.
var methodsThatChange = []string{"TakeEvents", "Commit", "Spend", "SpendDummy", "Reserve", "Sequence", "Strayed", "Learn", "SetLink"}

// viewChangesNothing keeps the commands that print and explain from changing what they show.
func viewChangesNothing(s *source, report report) {
	if s.test || !within(s.room, "internal/gateway/view") {
		return
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		reads := []string(nil)
		if pkg, ok := sel.X.(*ast.Ident); ok {
			reads = viewReads[pkg.Name]
		}
		if reads != nil && !slices.Contains(reads, sel.Sel.Name) || slices.Contains(methodsThatChange, sel.Sel.Name) {
			report("%s uses %s: the view only reads; what changes something is a command of the gateway", s.line(n), sel.Sel.Name)
		}
		return true
	})
}

// The protocol is a function of its inputs: a recorded exchange replays to the
// byte, and every collision can be scripted on virtual time.
func ikeIsAFunctionOfItsInputs(s *source, report report) {
	banned := map[string]string{
		"net": "sockets are the gateway's: datagrams come as inputs (net/netip is fine)",
		"os":  "files and the environment are the gateway's: bytes come as inputs", "sync": "an endpoint belongs to one caller and needs no locks",
		"sync/atomic": "an endpoint belongs to one caller and needs no locks",
		"crypto/rand": "randomness is bytes that are handed in, or recordings do not replay",
		"math/rand":   "randomness is bytes that are handed in, or recordings do not replay",
	}
	clock := map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "Tick": true, "NewTimer": true, "NewTicker": true}
	if s.test || !within(s.room, "ike") {
		return
	}
	for path, spec := range s.imports() {
		if why := banned[path]; why != "" {
			report("%s imports %s: %s", s.line(spec), path, why)
		}
	}
	v2 := s.imports()["math/rand/v2"] != nil
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report("%s starts a goroutine: what is slow is an Ask that a later input answers", s.line(n))
		case *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
			report("%s has a channel: inputs come by Handle, outputs leave by Poll", s.line(n))
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if ok && pkg.Name == "time" && clock[n.Sel.Name] {
				report("%s reads a clock (time.%s): now is handed in with each input", s.line(n), n.Sel.Name)
			}
			if ok && v2 && pkg.Name == "rand" && topLevelDraw[n.Sel.Name] {
				report("%s draws from the global generator (rand.%s): use one that is seeded from bytes that were handed in", s.line(n), n.Sel.Name)
			}
		}
		return true
	})
}

// topLevelDraw are the functions of math/rand/v2 that draw from its global generator.
var topLevelDraw = map[string]bool{"Int": true, "IntN": true, "Int32": true, "Int32N": true, "Int64": true, "Int64N": true, "Uint": true, "UintN": true,
	"Uint32": true, "Uint32N": true, "Uint64": true, "Uint64N": true, "Float32": true, "Float64": true, "NormFloat64": true, "ExpFloat64": true,
	"N": true, "Perm": true, "Shuffle": true}

func librariesHaveTheirPlace(s *source, report report) {
	for path, spec := range s.imports() {
		switch {
		case path == "C":
			report("%s uses cgo: one static binary that cross-compiles is a promise", s.line(spec))
		case within(path, "github.com/google/gopacket") && !s.test:
			report("%s imports %s: it is an oracle for tests; packets are read by internal/packet/wire", s.line(spec), path)
		case within(path, "pgregory.net/rapid", "go.uber.org/goleak", "testing") && !s.test && !within(s.room, "internal/testing", "benchmarks"):
			report("%s imports %s: it belongs into tests, not into the binary", s.line(spec), path)
		case within(path, "github.com/alecthomas/kong") && !within(s.room, "cmd"):
			report("%s imports %s: flags are read in cmd alone; hand values in", s.line(spec), path)
		}
	}
}

var (
	// Spelt apart, or this file would break its own rule.
	unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	outside    = regexp.MustCompile(`^/(work|home|Users|root|tmp)(/|$)`)
	upwards    = regexp.MustCompile(`\.\./shared(/|$)`)
)

func nothingIsLeftUnfinished(s *source, report report) {
	if s.test {
		return
	}
	for _, group := range s.ast.Comments {
		if word := unfinished.FindString(group.Text()); word != "" {
			report("%s says %s: finish it, or refuse what is missing with an error that says so", s.line(group), word)
		}
	}
}

func noPathLeadsOut(s *source, report report) {
	helper := s.test || within(s.room, "internal/testing", "benchmarks")
	ast.Inspect(s.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(lit.Value)
		switch {
		case err != nil:
		case outside.MatchString(text) && !s.test:
			report("%s has the path %q: it exists on one machine only; take it from the configuration", s.line(lit), text)
		case upwards.MatchString(text) && !helper:
			report("%s has the path %q: only tests may look into the folder beside the repository, and skip without it", s.line(lit), text)
		}
		return true
	})
}

// testSupportStaysInTests keeps what only tests need out of the binary. The demonstration runs
// on a simulated network, which is the one exception.
func testSupportStaysInTests(s *source, report report) {
	if s.test || within(s.room, "internal/testing", "benchmarks") {
		return
	}
	for path, spec := range s.imports() {
		ours, is := strings.CutPrefix(path, module)
		if is && within(ours, "internal/testing") && !(s.room == "internal/demo" && ours == "internal/testing/simnet") {
			report("%s imports %s: it is for tests, and would become a part of the binary", s.line(spec), path)
		}
	}
}

// groups are the folders of internal.
var groups = []string{"packet", "host", "state", "operate", "gateway", "demo", "testing"}

func internalPackagesAreInGroups(s *source, report report) {
	rest, is := strings.CutPrefix(s.room, "internal/")
	group, _, _ := strings.Cut(rest, "/")
	if is && !slices.Contains(groups, group) {
		report("%s is in internal/%s: a package of internal belongs into one of the groups %v", s.path, group, groups)
	}
}

// TestEveryPackageHasADocFile: what a package is for stands in its doc.go, where a newcomer
// looks first, and nowhere else.
func TestEveryPackageHasADocFile(t *testing.T) {
	where := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if where[s.room] == nil {
			where[s.room] = []string{}
		}
		if s.ast.Doc != nil {
			where[s.room] = append(where[s.room], s.path)
		}
	}
	for room, files := range where {
		if want := room + "/doc.go"; len(files) != 1 || files[0] != want {
			t.Errorf("package comments of %s: %v, want one in %s", room, files, want)
		}
	}
}
