package dramatiq

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/dramatiq-go/dramatiq/wire"
)

// None is the argument type of actors that take nothing, and the result type of actors that give nothing.
type None struct{}

// RawArgs is the argument type of actors that take their arguments as raw JSON, byte for byte as they came. Empty members
// mean no arguments.
type RawArgs struct {
	Args   json.RawMessage // an array
	Kwargs json.RawMessage // an object
}

// Arg carries one positional argument, also where T is a struct, whose fields would otherwise be arguments of their own.
type Arg[T any] struct{ Value T }

func (Arg[T]) isArg() {}

// Float is a number that reaches Python as a float even if it is a whole one: 1 is sent as 1.0.
type Float float64

// MarshalJSON implements json.Marshaler.
func (f Float) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return nil, fmt.Errorf("%v has no place in JSON; send it through RawArgs if it must travel", float64(f))
	}
	text, err := json.Marshal(float64(f))
	if err == nil && !bytes.ContainsAny(text, ".e") {
		text = append(text, '.', '0')
	}
	return text, err
}

// argsKind is how an actor's In travels.
type argsKind uint8

const (
	argsSingle argsKind = iota // one positional argument
	argsNone
	argsRaw
	argsStruct // keyword arguments
	argsWrapped
)

// argsPlan is how arguments of one type are encoded and bound, worked out when the actor is declared.
type argsPlan struct {
	kind   argsKind
	fields []string // JSON names of a struct's fields, in their order
	// wholeObject is true when the first field cannot hold a JSON object, so that one positional object is the whole struct.
	wholeObject bool
}

func newArgsPlan[In any]() (*argsPlan, error) {
	t := reflect.TypeFor[In]()
	if err := checkType(t, map[reflect.Type]bool{}); err != nil {
		return nil, err
	}
	switch any(*new(In)).(type) {
	case None:
		return &argsPlan{kind: argsNone}, nil
	case RawArgs:
		return &argsPlan{kind: argsRaw}, nil
	case interface{ isArg() }:
		if t.Kind() == reflect.Pointer {
			return nil, fmt.Errorf("argument type %v is a pointer; use %v", t, t.Elem())
		}
		return &argsPlan{kind: argsWrapped}, nil
	}
	if !isPlainStruct(t) {
		return &argsPlan{kind: argsSingle}, nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	p := &argsPlan{kind: argsStruct}
	for _, f := range jsonFields(t) {
		if slices.Contains(p.fields, f.name) {
			return nil, fmt.Errorf("argument type %v has two fields with the JSON name %q", t, f.name)
		}
		if len(p.fields) == 0 {
			p.wholeObject = !holdsObject(f.typ)
		}
		p.fields = append(p.fields, f.name)
	}
	return p, nil
}

// jsonField is a field of a struct as encoding/json sees it.
type jsonField struct {
	name  string
	typ   reflect.Type
	index []int
}

// jsonFields returns the fields of a struct in their order, those of embedded structs in the place of these.
func jsonFields(t reflect.Type) []jsonField {
	var fields []jsonField
	for i := range t.NumField() {
		f := t.Field(i)
		name, tagged, ok := fieldName(f)
		if !ok {
			continue
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && !tagged && inner.Kind() == reflect.Struct:
			for _, promoted := range jsonFields(inner) {
				promoted.index = append([]int{i}, promoted.index...)
				fields = append(fields, promoted)
			}
		case f.IsExported():
			fields = append(fields, jsonField{name, f.Type, []int{i}})
		}
	}
	// A field hides those of the same name that are embedded more deeply.
	depth := map[string]int{}
	for _, f := range fields {
		if d, seen := depth[f.name]; !seen || len(f.index) < d {
			depth[f.name] = len(f.index)
		}
	}
	return slices.DeleteFunc(fields, func(f jsonField) bool { return len(f.index) > depth[f.name] })
}

// fieldName returns a field's name in JSON and whether it comes from a tag; ok is false where it is left out.
func fieldName(f reflect.StructField) (name string, tagged, ok bool) {
	tag := f.Tag.Get("json")
	if tag == "-" {
		return "", false, false
	}
	if name, _, _ = strings.Cut(tag, ","); name != "" {
		return name, true, true
	}
	return f.Name, false, true
}

// isPlainStruct is true for structs, and pointers to them, that encoding/json turns into an object of their fields.
func isPlainStruct(t reflect.Type) bool {
	if implementsMarshaler(t) {
		return false
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && !implementsMarshaler(reflect.PointerTo(t))
}

func implementsMarshaler(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

func holdsObject(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Interface:
		return !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	case reflect.Pointer:
		return holdsObject(t.Elem())
	default:
		return false
	}
}

// checkType refuses types that no value of which can be encoded.
func checkType(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] || implementsMarshaler(t) || implementsMarshaler(reflect.PointerTo(t)) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("argument type %v %w as JSON", t, ErrEncode)
	case reflect.Map:
		k := t.Key()
		textKey := k.Implements(reflect.TypeFor[encoding.TextMarshaler]())
		if !textKey && k.Kind() != reflect.String && (k.Kind() < reflect.Int || k.Kind() > reflect.Uintptr) {
			return fmt.Errorf("argument type %v %w as JSON: keys must be strings or integers", t, ErrEncode)
		}
		return checkType(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkType(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous {
				continue
			}
			if err := checkType(f.Type, seen); err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
	default:
	}
	return nil
}

// encodeArgs fills an envelope's arguments.
func encodeArgs[In any](env *wire.Envelope, p *argsPlan, in In, positional bool) error {
	switch p.kind {
	case argsNone:
		return nil
	case argsRaw:
		return encodeRawArgs(env, any(in).(RawArgs))
	case argsStruct:
		raw, err := encodeValue(&in)
		if err != nil {
			return err
		}
		if raw[0] != '{' {
			return fmt.Errorf("%w: a struct must not be nil", ErrEncode)
		}
		if !positional {
			env.Kwargs = raw
			return nil
		}
		return encodePositional(env, p, raw)
	case argsWrapped:
		raw, err := encodeValue(reflect.ValueOf(&in).Elem().Field(0).Addr().Interface())
		if err != nil {
			return err
		}
		env.Args = wrapArray(raw)
		return nil
	default:
		raw, err := encodeValue(&in)
		if err != nil {
			return err
		}
		env.Args = wrapArray(raw)
		return nil
	}
}

func encodeRawArgs(env *wire.Envelope, in RawArgs) error {
	env.Args, env.Kwargs = in.Args, in.Kwargs
	if err := env.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return nil
}

// encodePositional turns an encoded struct into an array of its fields.
func encodePositional(env *wire.Envelope, p *argsPlan, object json.RawMessage) error {
	members, err := wire.SplitObject(object)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEncode, err)
	}
	given := make(map[string]json.RawMessage, len(members))
	for _, m := range members {
		given[m.Name] = m.Value
	}
	args := []byte{'['}
	for i, name := range p.fields {
		if i > 0 {
			args = append(args, ',')
		}
		value, ok := given[name]
		if !ok {
			value = json.RawMessage("null") // an omitted field keeps its place
		}
		args = append(args, value...)
	}
	env.Args = append(args, ']')
	return nil
}

func wrapArray(raw json.RawMessage) json.RawMessage {
	out := make(json.RawMessage, 0, len(raw)+2)
	out = append(out, '[')
	out = append(out, raw...)
	return append(out, ']')
}

// encodeValue encodes the argument or result that in points to. Raw JSON is kept byte for byte, NaN and the infinities
// included.
func encodeValue(in any) (json.RawMessage, error) {
	var raw json.RawMessage
	var err error
	switch in := in.(type) {
	case *None:
		raw = json.RawMessage("null")
	case *json.RawMessage:
		raw = orEmpty(*in, "null")
		err = wire.Check(raw)
	default:
		raw, err = json.Marshal(in)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return raw, nil
}

// bindArgs makes a handler's argument of a message's. Its errors wrap ErrArguments.
func bindArgs[In any](p *argsPlan, env *wire.Envelope) (in In, err error) {
	if p == nil { // of a declaration that is wrong
		return in, fmt.Errorf("dramatiq: %w: %w", ErrArguments, ErrInvalidActor)
	}
	if err := p.bind(&in, env); err != nil {
		return in, fmt.Errorf("dramatiq: %w: %w", ErrArguments, err)
	}
	return in, nil
}

func (p *argsPlan) bind(in any, env *wire.Envelope) error {
	if p.kind == argsRaw {
		*in.(*RawArgs) = RawArgs{Args: orEmpty(env.Args, "[]"), Kwargs: orEmpty(env.Kwargs, "{}")}
		return nil
	}
	args, err := wire.SplitArray(orEmpty(env.Args, "[]"))
	if err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if p.kind == argsStruct {
		object, err := p.object(args, env)
		if err != nil {
			return err
		}
		return p.bindObject(in, object)
	}
	kwargs, err := wire.SplitObject(orEmpty(env.Kwargs, "{}"))
	if err != nil {
		return fmt.Errorf("kwargs: %w", err)
	}
	want := 1
	if p.kind == argsNone {
		want = 0
	}
	switch {
	case len(args) != want:
		return fmt.Errorf("takes %d positional arguments, but %d were given", want, len(args))
	case len(kwargs) > 0:
		return fmt.Errorf("takes no keyword arguments, but %q was given", kwargs[0].Name)
	case want == 0:
		return nil
	case p.kind == argsWrapped:
		return decodeValue(args[0], reflect.ValueOf(in).Elem().Field(0).Addr().Interface())
	default:
		return decodeValue(args[0], in)
	}
}

// object returns a struct's arguments as one JSON object of its fields. Keyword arguments alone, which is what Go and most
// Python senders send, are that object as they are.
func (p *argsPlan) object(args []json.RawMessage, env *wire.Envelope) (json.RawMessage, error) {
	raw := orEmpty(env.Kwargs, "{}")
	if raw[0] != '{' {
		return nil, fmt.Errorf("kwargs is not an object: %.40s", raw)
	}
	if len(args) == 0 {
		return raw, nil
	}
	kwargs, err := wire.SplitObject(raw)
	if err != nil {
		return nil, fmt.Errorf("kwargs: %w", err)
	}
	if len(args) == 1 && len(kwargs) == 0 && p.wholeObject && args[0][0] == '{' {
		return args[0], nil
	}
	if len(args) > len(p.fields) {
		return nil, fmt.Errorf("takes %d positional arguments, but %d were given", len(p.fields), len(args))
	}
	object := []byte{'{'}
	add := func(name string, value json.RawMessage) {
		if len(object) > 1 {
			object = append(object, ',')
		}
		object = append(wire.AppendString(object, name), ':')
		object = append(object, value...)
	}
	for i, value := range args {
		add(p.fields[i], value)
	}
	for _, m := range kwargs {
		if slices.Contains(p.fields[:len(args)], m.Name) {
			return nil, fmt.Errorf("argument %q was given by position and by name", m.Name)
		}
		add(m.Name, m.Value)
	}
	return append(object, '}'), nil
}

func (p *argsPlan) bindObject(in any, object json.RawMessage) error {
	if hasNonFinite(object) {
		return decodeNonFinite(object, reflect.ValueOf(in).Elem())
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.DisallowUnknownFields()
	return dec.Decode(in)
}

func orEmpty(raw json.RawMessage, empty string) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(empty)
	}
	return raw
}
