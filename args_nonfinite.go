package dramatiq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/dramatiq-go/dramatiq/wire"
)

// hasNonFinite reports whether raw holds NaN or an infinity, which encoding/json refuses.
func hasNonFinite(raw json.RawMessage) bool {
	if !bytes.Contains(raw, []byte("NaN")) && !bytes.Contains(raw, []byte("Infinity")) {
		return false
	}
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == 'N' || c == 'I'):
			return true
		}
	}
	return false
}

// decodeValue is json.Unmarshal that also takes NaN and the infinities, into floats and interfaces.
func decodeValue(raw json.RawMessage, target any) error {
	if !hasNonFinite(raw) {
		return json.Unmarshal(raw, target)
	}
	if u, ok := target.(json.Unmarshaler); ok { // json.RawMessage, for one
		return u.UnmarshalJSON(raw)
	}
	return decodeNonFinite(raw, reflect.ValueOf(target).Elem())
}

// decodeNonFinite takes apart what encoding/json cannot, down to the values that it can.
func decodeNonFinite(raw json.RawMessage, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(raw, v.Interface())
	case reflect.Float32, reflect.Float64:
		f, ok := wire.ParseNumber(raw)
		if !ok {
			return fmt.Errorf("cannot decode %.40s into %v", raw, v.Type())
		}
		v.SetFloat(f)
		return nil
	case reflect.Interface:
		return decodeAny(raw, v)
	case reflect.Slice, reflect.Array:
		return decodeElements(raw, v)
	case reflect.Map, reflect.Struct:
		return decodeMembers(raw, v)
	default:
		return fmt.Errorf("cannot decode %.40s into %v", raw, v.Type())
	}
}

func decodeAny(raw json.RawMessage, v reflect.Value) error {
	if v.NumMethod() > 0 {
		return fmt.Errorf("cannot decode %.40s into %v", raw, v.Type())
	}
	var holder reflect.Value
	switch raw[0] {
	case '[':
		holder = reflect.New(reflect.TypeFor[[]any]())
	case '{':
		holder = reflect.New(reflect.TypeFor[map[string]any]())
	default:
		holder = reflect.New(reflect.TypeFor[float64]())
	}
	if err := decodeValue(raw, holder.Interface()); err != nil {
		return err
	}
	v.Set(holder.Elem())
	return nil
}

func decodeElements(raw json.RawMessage, v reflect.Value) error {
	elements, err := wire.SplitArray(raw)
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(elements), len(elements)))
	}
	for i, e := range elements[:min(len(elements), v.Len())] {
		if err := decodeValue(e, v.Index(i).Addr().Interface()); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

func decodeMembers(raw json.RawMessage, v reflect.Value) error {
	members, err := wire.SplitObject(raw)
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Map {
		if v.Type().Key().Kind() != reflect.String {
			return fmt.Errorf("cannot decode numbers that are not finite into %v", v.Type())
		}
		v.Set(reflect.MakeMapWithSize(v.Type(), len(members)))
	}
	for _, m := range members {
		if v.Kind() == reflect.Map {
			value := reflect.New(v.Type().Elem())
			if err := decodeValue(m.Value, value.Interface()); err != nil {
				return fmt.Errorf("member %q: %w", m.Name, err)
			}
			v.SetMapIndex(reflect.ValueOf(m.Name).Convert(v.Type().Key()), value.Elem())
			continue
		}
		field, ok := fieldNamed(v, m.Name)
		if !ok {
			return fmt.Errorf("unknown argument or member %q", m.Name)
		}
		if err := decodeValue(m.Value, field.Addr().Interface()); err != nil {
			return fmt.Errorf("member %q: %w", m.Name, err)
		}
	}
	return nil
}

// fieldNamed returns the field of a struct with a JSON name, making embedded structs that are nil.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	fields := jsonFields(v.Type())
	at := slices.IndexFunc(fields, func(f jsonField) bool { return f.name == name })
	if at < 0 {
		return v, false
	}
	index := fields[at].index
	for _, x := range index[:len(index)-1] {
		if v = v.Field(x); v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, false
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
	}
	return v.Field(index[len(index)-1]), true
}
