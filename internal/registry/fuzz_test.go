package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// strictParser is golang-jwt with every strict option that it has.
func strictParser(c Config) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(c.Leeway), jwt.WithTimeFunc(c.Now),
		jwt.WithStrictDecoding())
}

// Anybody may write a token's text; only the platform signs one. FuzzVerify
// does both: whatever it accepts, golang-jwt accepts too, and reads the same
// in it.
func FuzzVerify(f *testing.F) {
	c := testConfig()
	c.Keys = c.Keys[:1]
	v := newVerifier(f, c)
	parser := strictParser(c)

	for _, a := range attacks() {
		segments := strings.SplitN(a.token, ".", 3)
		if len(segments) < 3 {
			continue
		}
		header, errHeader := decodeSegment(segments[0])
		claims, errClaims := decodeSegment(segments[1])
		if errHeader == nil && errClaims == nil {
			f.Add(header, claims, a.token)
		}
	}
	f.Add([]byte(goodHeader.String()), []byte(goodClaims.String()), goodToken())

	f.Fuzz(func(t *testing.T, header, claims []byte, raw string) {
		for _, token := range []string{raw, sign(firstKey(), string(header), string(claims))} {
			p, err := v.Verify(t.Context(), token)
			if err != nil {
				if _, ok := errors.AsType[*TokenError](err); !ok || p != nil {
					t.Fatalf("Verify() = %v, %v, want a *TokenError alone", p, err)
				}
				continue
			}
			parsed, err := parser.Parse(token, func(*jwt.Token) (any, error) { return c.Keys[0].Public, nil })
			if err != nil {
				t.Fatalf("golang-jwt refuses what we accept: %v", err)
			}
			theirs := parsed.Claims.(jwt.MapClaims)
			expires, err := theirs.GetExpirationTime()
			if err != nil || !expires.Equal(p.Expires) {
				t.Errorf("Expires = %v, golang-jwt reads %v, %v", p.Expires, expires, err)
			}
			if p.Subject != theirs["sub"] || p.Context != theirs["scope"] {
				t.Errorf("%+v, golang-jwt reads %v", p, theirs)
			}
			if fmt.Sprint(p.Roles) != fmt.Sprint(orEmpty(theirs["roles"])) || fmt.Sprint(p.Contexts) != fmt.Sprint(orEmpty(theirs["contexts"])) {
				t.Errorf("%+v, golang-jwt reads %v", p, theirs)
			}
		}
	})
}

func orEmpty(v any) any {
	if v == nil {
		return []any{}
	}
	return v
}

// What parseObject finds is what encoding/json finds, wherever the two agree
// that there is an object.
func FuzzParseObject(f *testing.F) {
	f.Add([]byte(goodHeader.String()))
	f.Add([]byte(goodClaims.String()))
	f.Add([]byte(`{}`))
	f.Add([]byte(" { \"a\" : [ ] , \"b\" : { } ,\n\"c\":-1.5e+3,\"d\":null}\t"))
	f.Add([]byte(`{"a":"\"]}\\","b":["\\\"",{"c":[[],{}]}],"\u0063":"\ud83d\ude00"}`))
	f.Add([]byte(`{"a":1,"A":2}`))
	f.Add([]byte(`{"a":["x","y","\u007a",""]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := parseObject(data, nil)
		var want map[string]any
		if wantErr := json.Unmarshal(data, &want); err == nil && (wantErr != nil || want == nil) {
			t.Fatalf("parseObject takes what encoding/json refuses: %v", wantErr)
		}
		if err != nil {
			return
		}
		got := make(map[string]any)
		for _, m := range members {
			var value any
			if err := json.Unmarshal([]byte(m.value), &value); err != nil {
				t.Fatalf("the value of %q is not JSON: %v", m.name, err)
			}
			got[m.name] = value
			checkStrings(t, m.value, value)
		}
		if len(got) != len(members) || !reflect.DeepEqual(got, want) {
			t.Errorf("parseObject(%q) = %v, want %v", data, got, want)
		}
	})
}

// checkStrings compares parseString and parseStrings for a JSON value with
// what encoding/json has made of it.
func checkStrings(t *testing.T, value string, want any) {
	text, ok := parseString(value)
	wantText, isText := want.(string)
	if ok && (!isText || text != wantText) || !ok && isText && !strings.ContainsRune(wantText, utf8.RuneError) {
		t.Errorf("parseString(%q) = %q, %v, want %q, %v", value, text, ok, wantText, isText)
	}
	texts, ok := parseStrings(value)
	array, isArray := want.([]any)
	isText = isArray && !slices.ContainsFunc(array, func(v any) bool { _, ok := v.(string); return !ok })
	if ok && !isText || !ok && isText && !strings.ContainsRune(fmt.Sprint(array...), utf8.RuneError) {
		t.Errorf("parseStrings(%q) = %q, %v, want %v, %v", value, texts, ok, array, isText)
	}
	if ok && fmt.Sprintf("%q", texts) != fmt.Sprintf("%q", array) {
		t.Errorf("parseStrings(%q) = %q, want %q", value, texts, array)
	}
}
