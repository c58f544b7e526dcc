package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

var time0 = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)

// parrot is an endpoint that says every datagram back, once for each byte of it,
// and numbers what it says.
type parrot struct {
	said  int
	queue []core.Output
	now   time.Time
	cfg   *core.Config
}

func (p *parrot) Handle(now time.Time, in core.Input) {
	p.now = now
	switch in := in.(type) {
	case core.Datagram:
		for _, b := range in.Data {
			p.said++
			p.queue = append(p.queue, core.Send{Local: in.Local, Remote: in.Remote, Data: []byte{b, byte(p.said)}})
		}
	case core.Reconfigure:
		p.cfg = in.Config
		p.queue = append(p.queue, core.NeedSPIs{N: len(in.Config.Peers)})
	}
}
func (p *parrot) Poll() (core.Output, bool) {
	if len(p.queue) == 0 {
		return nil, false
	}
	o := p.queue[0]
	p.queue = p.queue[1:]
	return o, true
}
func (p *parrot) Deadline() (time.Time, bool)                                  { return p.now.Add(time.Second), true }
func (p *parrot) Holds() []core.Hold                                           { return nil }
func (p *parrot) SAs() []core.SAInfo                                           { return nil }
func (p *parrot) Idle() bool                                                   { return true }
func (p *parrot) Trace(func(sent bool, h message.Header, b []message.Payload)) {}
func (p *parrot) Witness(core.Witness)                                         {}

const conf = `[[peer]]
name = "a"
address = "192.0.2.1/32"
exchange-mode = "ike2"
[[identity]]
peer = "a"
secret = "thisisnotasecurepsk"
`

func snapshot() *config.Snapshot {
	return &config.Snapshot{Path: "x.toml", Files: []config.SnapshotFile{{Path: "x.toml", Mode: 0o600, Data: []byte(conf)}}}
}

var player = Player{
	New: func([32]byte) Endpoint { return &parrot{} },
	Compile: func(r Reconfigure) (*core.Config, error) {
		c, _, err := r.From.Load()
		if err != nil {
			return nil, err
		}
		return &core.Config{Peers: make([]*core.Peer, len(c.Peers))}, nil
	},
}

// make records five inputs and returns the file.
func recorded(t *testing.T, change func(*Options)) (path string, r *Recorder) {
	t.Helper()
	o := Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0, Seed: [32]byte{7}, Build: "test"}
	if change != nil {
		change(&o)
	}
	r, err := New(&parrot{}, o)
	if err != nil {
		t.Fatal(err)
	}
	say := func(after time.Duration, in core.Input) {
		r.Handle(time0.Add(after), in)
		for _, ok := r.Poll(); ok; _, ok = r.Poll() {
		}
	}
	r.From(snapshot(), [2]uint16{500, 4500}, false)
	say(0, core.Reconfigure{Config: &core.Config{Peers: make([]*core.Peer, 1)}})
	say(time.Second, core.Datagram{Local: ap4, Remote: ap4, Data: []byte("abc")})
	say(2*time.Second, core.Tick{})
	say(3*time.Second, core.Datagram{Local: ap4, Remote: ap4, Data: []byte("d")})
	say(4*time.Second, core.Command{Do: core.Shutdown})
	return filepath.Join(o.Dir, FileName), r
}

func TestRecordAndReplay(t *testing.T) {
	path, r := recorded(t, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	p := player
	var seed [32]byte
	p.New = func(s [32]byte) Endpoint { seed = s; return &parrot{} }
	got, err := Replay(filepath.Dir(path), p)
	if err != nil || got.Difference != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	if seed != [32]byte{7} {
		t.Errorf("the endpoint is made of the seed %x", seed)
	}
	if got.Inputs != 5 || got.Outputs != 5 || got.Ended != "closed" || got.Build != "test" || !got.Start.Equal(time0) || len(got.Chain) != 64 {
		t.Errorf("%+v", got)
	}
}

// One that was killed has no end, and plays as far as it goes.
func TestWithoutEnd(t *testing.T) {
	path, r := recorded(t, nil)
	defer r.Close()
	got, err := Replay(filepath.Dir(path), player)
	if err != nil || got.Difference != nil || got.Ended != "" || got.Inputs != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Every byte that changes shows: as another output, as a broken format, or in
// the chain.
func TestEveryChangedByteShows(t *testing.T) {
	path, r := recorded(t, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	differences := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		got, err := Play(bytes.NewReader(bad), player)
		if err == nil && got.Difference == nil && got.Ended != "" {
			// The end's own reason comes after the chain.
			if i < len(good)-len("closed") {
				t.Errorf("byte %d of %d: %+v", i, len(good), got)
			}
		}
		if err == nil && got.Difference != nil {
			differences++
		}
	}
	if differences < 3*8 {
		t.Errorf("%d changed bytes showed as outputs", differences)
	}
	at := bytes.Index(good, []byte("abc"))
	good[at+1] ^= 1
	got, err := Play(bytes.NewReader(good), player)
	if err != nil || got.Difference == nil || got.Difference.Input != 2 || got.Difference.Output != 2 || !strings.Contains(got.Difference.String(), "Datagram 192.0.2.1:500") {
		t.Errorf("%+v, %v", got.Difference, err)
	}
}

func TestLimit(t *testing.T) {
	var stopped []error
	path, r := recorded(t, func(o *Options) {
		o.Limit = 2048
		o.Stopped = func(err error) { stopped = append(stopped, err) }
	})
	for i := range 100 {
		r.Handle(time0.Add(time.Minute+time.Duration(i)), core.Datagram{Local: ap4, Remote: ap4, Data: []byte("xyz")})
		for _, ok := r.Poll(); ok; _, ok = r.Poll() {
		}
	}
	if len(stopped) != 1 || !errors.Is(stopped[0], errFull) {
		t.Fatalf("stopped %v", stopped)
	}
	if st, err := os.Stat(path); err != nil || st.Size() > 2048 {
		t.Errorf("%v, %v", st.Size(), err)
	}
	got, err := Replay(filepath.Dir(path), player)
	if err != nil || got.Difference != nil || got.Ended != errFull.Error() || got.Inputs < 6 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// One without secrets ends at its limit, wherever that is, and plays up to there.
func TestLimitRedacted(t *testing.T) {
	for limit := int64(1400); limit < 2600; limit += 7 {
		path, r := recorded(t, func(o *Options) { o.Limit, o.Redact = limit, true })
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Size() > limit {
			t.Errorf("limit %d: %d bytes, %v", limit, st.Size(), err)
		}
		if got, err := Replay(filepath.Dir(path), player); err != nil || got.Difference != nil || got.Ended == "" {
			t.Errorf("limit %d: %+v, %v", limit, got, err)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	var stopped []error
	path, r := recorded(t, func(o *Options) {
		o.For = 3 * time.Second
		o.Stopped = func(err error) { stopped = append(stopped, err) }
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Replay(path, player) // the file itself is named
	if err != nil || got.Difference != nil || got.Ended != errTime.Error() || got.Inputs != 3 || len(stopped) != 1 {
		t.Errorf("%+v, %v, stopped %v", got, err, stopped)
	}
}

// full is a disk that takes so many bytes more.
type full struct {
	f    *os.File
	room int
}

func (w *full) Write(b []byte) (int, error) {
	n, err := w.f.Write(b[:min(len(b), w.room)])
	w.room -= n
	if err == nil && n < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

// A full disk ends the recording, not the endpoint, and what is there plays.
func TestFullDisk(t *testing.T) {
	for room := range 300 {
		var stopped []error
		path, r := recorded(t, func(o *Options) { o.Stopped = func(err error) { stopped = append(stopped, err) } })
		r.f.w.Reset(&full{r.f.f, room})
		p := r.Endpoint.(*parrot)
		said := p.said
		for i := range 20 {
			r.Handle(time0.Add(time.Minute+time.Duration(i)), core.Datagram{Local: ap4, Remote: ap4, Data: []byte("xyz")})
			for _, ok := r.Poll(); ok; _, ok = r.Poll() {
			}
		}
		if p.said != said+60 || len(stopped) != 1 || !errors.Is(stopped[0], syscall.ENOSPC) {
			t.Fatalf("room for %d bytes: the endpoint said %d, stopped %v", room, p.said-said, stopped)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		got, err := Replay(filepath.Dir(path), player)
		if err != nil || got.Difference != nil || got.Ended != "" || got.Inputs < 5 {
			t.Fatalf("room for %d bytes: %+v, %v", room, got, err)
		}
	}
}

// An earlier recording stays, under the name of its time, while there is room.
func TestPutAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	record := func(total int64) {
		t.Helper()
		r, err := New(&parrot{}, Options{Dir: dir, Start: time0, Limit: 4000, Total: total})
		if err != nil {
			t.Fatal(err)
		}
		r.Handle(time0, core.Tick{})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 {
		record(0)
		if err := os.Chtimes(filepath.Join(dir, FileName), time0, time0.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (list []string) {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			st, err := e.Info()
			if err != nil || st.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("%s has mode %v, %v", e.Name(), st.Mode(), err)
			}
			list = append(list, e.Name())
		}
		return list
	}
	if got := names(); len(got) != 4 || got[1] != FileName+"-20300102T030405.000000006Z" || got[3] != FileName+"-20300102T050405.000000006Z" {
		t.Errorf("%q", got)
	}
	if got, err := Replay(filepath.Join(dir, names()[1]), player); err != nil || got.Ended != "closed" {
		t.Errorf("%+v, %v", got, err)
	}
	st, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	record(2*st.Size() + 4000)
	if got := names(); len(got) != 3 || got[1] != FileName+"-20300102T050405.000000006Z" || got[2] != FileName+"-20300102T060405.000000006Z" {
		t.Errorf("%q", got)
	}
}

// The endpoint's clock runs evenly; deadlines come back in the caller's time.
func TestClock(t *testing.T) {
	p := &parrot{}
	start := time.Now() // with a monotonic reading
	r, err := New(p, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: start})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Handle(start.Add(5*time.Second), core.Tick{})
	if want := time.Unix(0, start.UnixNano()).UTC().Add(5 * time.Second); p.now != want {
		t.Errorf("the endpoint's time is %v, want %v", p.now, want)
	}
	if at, ok := r.Deadline(); !ok || at.Sub(start) != 6*time.Second {
		t.Errorf("deadline %v", at)
	}
}

// One without secrets plays, and has none.
func TestRedacted(t *testing.T) {
	path, r := recorded(t, func(o *Options) { o.Redact = true })
	r.saw.Drew([]byte("anonce"))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"thisisnotasecurepsk", "abc", string([]byte{7, 0, 0})} {
		if bytes.Contains(good, []byte(secret)) {
			t.Errorf("it has %q", secret)
		}
	}
	var lines []string
	p := player
	p.Line = func(_ time.Time, text string) { lines = append(lines, text) }
	got, err := Replay(filepath.Dir(path), p)
	if err != nil || !got.Redacted || got.Difference != nil || got.Inputs != 5 || got.Outputs != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"Reconfigure, 1 files", "Datagram 192.0.2.1:500 from 192.0.2.1:500, 3 bytes", "Command 3", "out Send"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		if got, err := Play(bytes.NewReader(bad), player); err == nil && got.Difference == nil && i < len(good)-len("closed") {
			t.Errorf("byte %d of %d was changed: %+v", i, len(bad), got)
		}
		_, _ = Play(bytes.NewReader(good[:i]), player)
	}
}

// Of mode config and XAuth everything stays but what may be a password, also where an attribute does not fit.
func TestBlankAttributes(t *testing.T) {
	list := []isakmp.Attribute{
		isakmp.Variable(1, []byte{192, 0, 2, 9}), isakmp.Basic(isakmp.XAuthType, 1), isakmp.Variable(isakmp.XAuthUserName, []byte("anna")),
		isakmp.Variable(isakmp.XAuthPassword, []byte("secret")), isakmp.Variable(isakmp.XAuthPasscode, []byte("secret")), isakmp.Basic(isakmp.XAuthPassword, 0x7365),
		isakmp.Variable(20000, []byte("secret")), isakmp.Variable(isakmp.UnityBanner, []byte("welcome")), isakmp.Basic(isakmp.XAuthStatus, 1)}
	first, b := isakmp.AppendPayloads(nil, []isakmp.Payload{&isakmp.Attributes{CfgType: isakmp.CfgReply, ID: 7, List: list}, &isakmp.Nonce{Data: []byte("thenonceitself16")}})
	whole := bytes.Clone(b)
	blank(first, b)
	c, err := isakmp.ParsePayloads(first, b)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range c.Payloads[0].(*isakmp.Attributes).List {
		want := list[i].Value
		if bytes.HasPrefix([]byte("secret"), want) {
			want = make([]byte, len(want))
		}
		if a.Type != list[i].Type || !bytes.Equal(a.Value, want) {
			t.Errorf("attribute %d has %q, want %q", a.Type, a.Value, want)
		}
	}
	for cut := range len(whole) {
		if c := bytes.Clone(whole[:cut]); cut > 4 {
			binary.BigEndian.PutUint16(c[2:], uint16(cut))
			blank(first, c)
			if bytes.Contains(c, []byte("sec")) {
				t.Fatalf("cut to %d bytes: %q", cut, c)
			}
		}
	}
}

// What a message keeps: what is wanted, not what proves it.
func TestBlank(t *testing.T) {
	first, b := message.AppendPayloads(nil, []message.Payload{
		&message.ID{Initiator: true, IDType: 2, Data: []byte("left.example")}, &message.Nonce{Data: []byte("thenonceitself16")},
		&message.Auth{Method: 2, Data: []byte("theproof")}, &message.Notify{Kind: message.NotifyNoPPKAuth, Data: []byte("theproof")},
		&message.Notify{Kind: message.NotifyTicketLTOpaque, Data: []byte("theproof")}, &message.Notify{Kind: 40000, Data: []byte("theproof")},
		&message.Unknown{T: 200, Body: []byte("theproof")}, &message.EAP{Data: []byte("12345theproof")},
		&message.Notify{Kind: message.NotifyRekeySA, Protocol: 3, SPI: []byte("spis")}})
	want, err := message.ParsePayloads(first, bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	blank(first, b)
	if bytes.Contains(b, []byte("proof")) {
		t.Errorf("a proof is left in %q", b)
	}
	for _, stays := range []string{"left.example", "thenonceitself16", "spis"} {
		if !bytes.Contains(b, []byte(stays)) {
			t.Errorf("%q is gone", stays)
		}
	}
	got, err := message.ParsePayloads(first, b)
	if err != nil || len(got) != len(want) || got[2].(*message.Auth).Method != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for cut := range b { // a chain that breaks off keeps nothing behind the break
		c := append(bytes.Clone(b[:cut]), "theproof"...)
		if blank(first, c); cut > 0 && bytes.HasSuffix(c, []byte("theproof")) && cut > 48 {
			t.Errorf("cut at %d: %q", cut, c)
		}
	}
	// What an encrypted fragment names as next is inside; behind it there is nothing to keep.
	skf := append([]byte{byte(message.TypeNonce), 0, 0, 12, 0, 1, 0, 2}, "abcd\x00\x00\x00\x08leak"...)
	if blank(message.TypeSKF, skf); !bytes.Equal(skf, append([]byte{byte(message.TypeNonce), 0, 0, 12, 0, 1, 0, 2}, make([]byte, 12)...)) {
		t.Errorf("SKF: %x", skf)
	}
	for n := range 4 { // a notify that is too short for what is in front of its data
		short := append([]byte{0, 0, 0, byte(4 + n)}, "abcd"[:n]...)
		c := bytes.Clone(short)
		if blank(message.TypeNotify, c); !bytes.Equal(c, short) {
			t.Errorf("%x became %x", short, c)
		}
	}
	v1 := append(message.Header{Version: 0x10, Length: 28 + 8}.Append(nil), "theproof"...)
	if blankDatagram(core.Datagram{Data: v1}); !bytes.HasSuffix(v1, []byte("theproof")) {
		t.Errorf("the endpoint's own datagram became %q", v1)
	}
	d := blankDatagram(core.Datagram{Data: append(message.Header{Version: 0x10, Length: 28 + 8}.Append(nil), "theproof"...)})
	if bytes.Contains(d.Data, []byte("proof")) {
		t.Errorf("IKEv1: %q", d.Data)
	}
	sk := (&message.Message{Header: message.Header{Version: 0x20, Exchange: message.ExchangeIKEAuth}, Payloads: []message.Payload{
		&message.Encrypted{First: message.TypeAUTH, Body: []byte("theproof")}}}).Append(nil)
	if d = blankDatagram(core.Datagram{Data: sk}); bytes.Contains(d.Data, []byte("proof")) || len(d.Data) != len(sk) {
		t.Errorf("SK: %q", d.Data)
	}
}

// Answers keep what is no secret.
func TestBlankAnswer(t *testing.T) {
	x := suite.GroupByName("x25519")
	full := func() core.Answer { return core.Answer{ID: 1, Data: bytes.Repeat([]byte{1}, 1200)} }
	for _, c := range []struct {
		w    core.Work
		kept int
	}{
		{nil, 0}, {core.KEPublic{}, 1200}, {core.KEShared{Group: x}, 0}, {core.KEBoth{KEShared: core.KEShared{Group: x}}, 32}, {core.Encapsulate{KEM: &suite.KEMs[0]}, suite.KEMs[0].CipherLen},
		{auth.Sign{}, 0}, {auth.SignRaw{}, 0}, {auth.Verify{}, 1200}, {auth.VerifyRaw{}, 1200}, {auth.Fetch{}, 1200}, {core.Lease{}, 1200}, {core.SourceFor{}, 1200},
	} {
		a := full()
		got := blankAnswer(a, c.w)
		if n := bytes.Count(got.Data, []byte{1}); n != c.kept || len(got.Data) != 1200 || a.Data[1199] != 1 {
			t.Errorf("%T keeps %d of %d bytes, want %d", c.w, n, len(got.Data), c.kept)
		}
	}
}

// asker is a parrot that has two things computed.
type asker struct{ parrot }

func (p *asker) Handle(now time.Time, in core.Input) {
	if _, ok := in.(core.Tick); ok {
		x := suite.GroupByName("x25519")
		p.queue = append(p.queue, core.Ask{ID: 1, Work: core.KEPublic{Group: x}}, core.Ask{ID: 2, Work: core.KEShared{Group: x}})
	}
	p.parrot.Handle(now, in)
}

// A recording without secrets knows what was asked, and so what of the answer may be passed on.
func TestRedactedAnswers(t *testing.T) {
	r, err := New(&asker{}, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0, Redact: true})
	if err != nil {
		t.Fatal(err)
	}
	r.Handle(time0, core.Tick{})
	for _, ok := r.Poll(); ok; _, ok = r.Poll() {
	}
	for i, in := range []core.Answer{{ID: 2, Data: []byte("sharedsecret")}, {ID: 1, Data: []byte("publicvalue")}, {ID: 1, Data: []byte("asked by nobody")}, {ID: 1, Err: errors.New("no")}} {
		r.Handle(time0.Add(time.Duration(i)), in)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.o.Dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("publicvalue")) || bytes.Contains(b, []byte("sharedsecret")) || bytes.Contains(b, []byte("asked by nobody")) {
		t.Errorf("%q", b)
	}
	if a := blankAnswer(core.Answer{ID: 1, Err: errFull}, nil); a.Data != nil || a.Err != errFull {
		t.Errorf("an answer that failed became %+v", a)
	}
}

func TestDigestsTellOutputsApart(t *testing.T) {
	e := core.Event{Kind: core.EvIKEUp, Peer: "a"}
	d := e
	d.Detail = &core.Mismatch{Ours: []string{"x"}}
	f := e
	f.Detail = &core.Mismatch{Theirs: []string{"x"}}
	seen := map[digest]core.Output{}
	for _, o := range []core.Output{core.Send{Data: []byte{1, 2}}, core.Send{Data: []byte{1}}, core.Send{Data: []byte{1, 2}, NATT: true}, core.Send{Local: ap4}, core.Send{Remote: ap4},
		core.Activate{Child: 1}, core.Retire{Child: 1}, core.Retire{Child: 2}, e, d, f, core.Ask{ID: 1, Work: core.SourceFor{}}, core.Ask{ID: 1, Work: core.KEPublic{}}, core.Install{}, core.Install{ESN: true}} {
		sum := digestOf(o)
		if was, ok := seen[sum]; ok {
			t.Errorf("%+v and %+v look alike", was, o)
		}
		if seen[sum] = o; digestOf(o) != sum {
			t.Errorf("%+v looks different each time", o)
		}
	}
}
