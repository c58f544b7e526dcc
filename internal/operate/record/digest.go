package record

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"culvert/crypto/suite"
	"culvert/ike/core"
)

// digest is the beginning of the SHA-256 of an output, which is not kept itself:
// it may hold keys, and what a replay makes of the same input is there to see.
type digest [8]byte

func digestOf(o core.Output) digest {
	sum := sha256.Sum256(appendValue(nil, reflect.ValueOf(o), 0))
	return digest(sum[:8])
}

// maxDepth bounds values in values; outputs have four at most.
const maxDepth = 12

// appendValue writes a value so that two are written alike only if they are
// alike: the name of its type, then what it consists of. Algorithms are written
// by name, since a row may get another column. What has no content of its own
// (functions, channels) is written as its type.
func appendValue(b []byte, v reflect.Value, depth int) []byte {
	if !v.IsValid() || depth > maxDepth {
		return append(b, "nil;"...)
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case netip.Addr:
			return append(append(b, x.String()...), ';')
		case netip.AddrPort:
			return append(append(b, x.String()...), ';')
		case *suite.Encr, *suite.Integ, *suite.PRF, *suite.Group:
			if v.IsNil() {
				return append(b, "none;"...)
			}
			return append(append(b, v.Elem().FieldByName("Name").String()...), ';')
		case error:
			return append(append(b, x.Error()...), ';')
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return fmt.Appendf(b, "%t;", v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Appendf(b, "%d;", v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Appendf(b, "%d;", v.Uint())
	case reflect.String:
		b = binary.BigEndian.AppendUint32(b, uint32(v.Len()))
		return append(b, v.String()...)
	case reflect.Slice, reflect.Array:
		b = binary.BigEndian.AppendUint32(b, uint32(v.Len()))
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...)
		}
		for i := range v.Len() {
			b = appendValue(b, v.Index(i), depth+1)
		}
		return b
	case reflect.Pointer, reflect.Interface:
		return appendValue(b, v.Elem(), depth+1)
	case reflect.Map:
		var entries []string
		for it := v.MapRange(); it.Next(); {
			entries = append(entries, string(appendValue(appendValue(nil, it.Key(), depth+1), it.Value(), depth+1)))
		}
		slices.Sort(entries)
		return fmt.Appendf(b, "%q;", entries)
	case reflect.Struct:
		b = append(append(b, v.Type().String()...), '{')
		for i := range v.NumField() {
			b = appendValue(append(append(b, v.Type().Field(i).Name...), ':'), v.Field(i), depth+1)
		}
		return append(b, '}')
	}
	return append(append(b, v.Type().String()...), ';')
}
