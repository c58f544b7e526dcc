package outputs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"culvert/ike/core"
)

// A Log is the hash of what one endpoint put out. The nil Log takes outputs and does nothing.
// A Log belongs to one goroutine.
type Log struct {
	sum     hash.Hash
	outputs int
}

var (
	mu     sync.Mutex
	counts = map[string]int{}
)

// New begins the log of an endpoint of t, which is told apart from the test's others by name
// and by how many of that name there were. Its line is written when t ends. It is nil unless
// CULVERT_OUTPUTS is set.
func New(t testing.TB, name string) *Log {
	dir := os.Getenv("CULVERT_OUTPUTS")
	if dir == "" {
		return nil
	}
	mu.Lock()
	key := t.Name() + " " + name
	counts[key]++
	key = fmt.Sprintf("%s %d", key, counts[key])
	mu.Unlock()
	l := &Log{sum: sha256.New()}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(filepath.Join(dir, filepath.Base(os.Args[0])+".txt"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			_, err = fmt.Fprintf(f, "%s: %d outputs, %x\n", key, l.outputs, l.sum.Sum(nil)[:12])
			f.Close()
		}
		if err != nil {
			t.Errorf("CULVERT_OUTPUTS: %v", err)
		}
	})
	return l
}

// Add takes one output.
func (l *Log) Add(o core.Output) {
	if l == nil {
		return
	}
	l.outputs++
	if e, ok := o.(core.Event); ok {
		fmt.Fprintf(l.sum, "event %v;", e.Kind)
		return
	}
	fmt.Fprintf(l.sum, "%T;", o)
	l.value(reflect.ValueOf(o))
}

// value adds what v consists of.
func (l *Log) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		fmt.Fprintf(l.sum, "%t;", v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		fmt.Fprintf(l.sum, "%d;", v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		fmt.Fprintf(l.sum, "%d;", v.Uint())
	case reflect.String:
		fmt.Fprintf(l.sum, "%q;", v.String())
	case reflect.Slice, reflect.Array:
		binary.Write(l.sum, binary.BigEndian, uint32(v.Len()))
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			l.sum.Write(v.Bytes())
			return
		}
		for i := range v.Len() {
			l.value(v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return compare(a, b) })
		for _, k := range keys {
			l.value(k)
			l.value(v.MapIndex(k))
		}
	case reflect.Interface:
		if !v.IsNil() {
			l.value(v.Elem())
		}
	case reflect.Pointer:
		switch {
		case v.IsNil():
			fmt.Fprint(l.sum, "nil;")
		case v.Type().Elem().Kind() == reflect.Struct && v.Elem().FieldByName("Name").IsValid(): // a row of a table
			l.value(v.Elem().FieldByName("Name"))
		default:
			l.value(v.Elem())
		}
	case reflect.Struct:
		switch s := v.Type().String(); s {
		case "netip.Addr", "netip.AddrPort", "netip.Prefix", "time.Time":
			if v.CanInterface() {
				fmt.Fprintf(l.sum, "%v;", v.Interface())
			} else { // the public methods cannot be called on what an unexported field holds
				fmt.Fprintf(l.sum, "%v;", v)
			}
		default:
			for i := range v.NumField() {
				l.value(v.Field(i))
			}
		}
	default: // functions and channels have no content of their own
		fmt.Fprint(l.sum, v.Kind(), ";")
	}
}

func compare(a, b reflect.Value) int {
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
