package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/dramatiq-go/dramatiq/wire"
)

// sum adds two JSON numbers as Python does: integers have no limit, and with a float the sum is a float.
func sum(x, y json.RawMessage) (json.RawMessage, error) {
	m, mWhole := integer(x)
	n, nWhole := integer(y)
	if mWhole && nWhole {
		return m.Add(m, n).Append(nil, 10), nil
	}
	a, err := float(x, m, mWhole)
	if err != nil {
		return nil, err
	}
	b, err := float(y, n, nWhole)
	if err != nil {
		return nil, err
	}
	return json.RawMessage(pythonFloat(a + b)), nil
}

// integer returns the value of a number without fraction and exponent.
func integer(raw json.RawMessage) (*big.Int, bool) {
	if len(raw) == 0 || bytes.ContainsAny(raw, ".eEIN\"") {
		return nil, false
	}
	return new(big.Int).SetString(string(raw), 10)
}

func float(raw json.RawMessage, whole *big.Int, isWhole bool) (float64, error) {
	if isWhole {
		f, _ := new(big.Float).SetInt(whole).Float64()
		if math.IsInf(f, 0) {
			return 0, fmt.Errorf("integer %.20s… is too large for a float", raw)
		}
		return f, nil
	}
	f, ok := wire.ParseNumber(raw)
	if !ok {
		return 0, fmt.Errorf("%.40s is not a number", raw)
	}
	return f, nil
}

// pythonFloat writes a float as Python does.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	scientific := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(scientific, "e")
	if e, err := strconv.Atoi(exponent); err != nil || e < -4 || e >= 16 {
		return scientific
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}
