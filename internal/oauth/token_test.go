package oauth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseClaims(t *testing.T) {
	token := jwt(t, map[string]any{"sub": alice, "scope": ctxOne, "roles": []string{"a", "b"}, "iat": 1, "exp": 2.5, "more": nil})
	got, err := ParseClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != alice || got.Context != ctxOne || len(got.Roles) != 2 || got.Contexts != nil ||
		!got.IssuedAt.Equal(time.Unix(1, 0)) || !got.Expires.Equal(time.Unix(2, 5e8)) {
		t.Errorf("ParseClaims = %+v", got)
	}

	part := base64.RawURLEncoding.EncodeToString
	with := func(claims string) string { return "aGVhZA." + part([]byte(claims)) + ".c2ln" }
	const good = `{"sub":"identity-alice123","scope":"context-abc12345"}`
	if _, err := ParseClaims(with(good)); err != nil {
		t.Fatalf("ParseClaims of the least there can be: %v", err)
	}
	wrong := []struct{ name, token string }{
		{"nothing", ""},
		{"one part", "c4nary"},
		{"two parts", "c4nary." + part([]byte(good))},
		{"four parts", with(good) + ".c4nary"},
		{"an empty signature", "c4nary." + part([]byte(good)) + "."},
		{"an empty header", "." + part([]byte(good)) + ".c4nary"},
		{"a line break in it", with(good)[:12] + "\n" + with(good)[12:]},
		{"a line break behind it", with(good) + "\n"},
		{"a space before it", " " + with(good)},
		{"padding", "c4nary." + part([]byte(good)) + "=.c4nary"},
		{"base64 of the other alphabet", "c4nary.e30/.c4nary"},
		{"a length that no base64 has", "c4nary.aaaaa.c4nary"},
		{"not ASCII", "c4naryä." + part([]byte(good)) + ".c4nary"},
		{"over 48 KiB", with(good) + strings.Repeat("a", 48<<10)},
		{"claims that are not JSON", with("c4nary")},
		{"claims that are a list", with(`["c4nary"]`)},
		{"something behind the claims", with(good + "c4nary")},
		{"null", with(`null`)},
		{"no sub", with(`{"scope":"c4nary"}`)},
		{"no scope", with(`{"sub":"c4nary"}`)},
		{"an empty scope", with(`{"sub":"c4nary","scope":""}`)},
		{"a sub that is a number", with(`{"sub":1,"scope":"c4nary"}`)},
		{"a role that is a number", with(`{"sub":"c4nary","scope":"c4nary","roles":[1]}`)},
		{"roles that are a string", with(`{"sub":"c4nary","scope":"c4nary","roles":"c4nary"}`)},
		{"an escape sequence in sub", with(`{"sub":"c4nary\u001b[2J","scope":"c4nary"}`)},
		{"a line break in scope", with(`{"sub":"c4nary","scope":"c4nary\n"}`)},
		{"reversed text in a role", with(`{"sub":"c4nary","scope":"c4nary","roles":["\u202ec4nary"]}`)},
		{"an escape sequence in contexts", with(`{"sub":"c4nary","scope":"c4nary","contexts":["\u001bc4nary"]}`)},
		{"an exp that is a string", with(`{"sub":"c4nary","scope":"c4nary","exp":"c4nary"}`)},
		{"an exp beyond all calendars", with(`{"sub":"c4nary","scope":"c4nary","exp":1e300}`)},
		{"an exp beyond all numbers", with(`{"sub":"c4nary","scope":"c4nary","exp":1e999}`)},
		{"an iat before the epoch", with(`{"sub":"c4nary","scope":"c4nary","iat":-1}`)},
	}
	for _, tt := range wrong {
		claims, err := ParseClaims(tt.token)
		if err == nil {
			t.Errorf("%s: ParseClaims = %+v, want an error", tt.name, claims)
		} else if strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%s: error %q quotes the token", tt.name, err)
		}
	}
}

func TestLifetime(t *testing.T) {
	day := 24 * time.Hour
	at := func(d time.Duration) time.Time { return monday.Add(d) }
	tests := []struct {
		name      string
		iat, exp  time.Time
		date      time.Time
		expiresIn string
		want      time.Duration // 0: an error
	}{
		{"all agree", at(0), at(day), at(0), "86400", day},
		{"a token made earlier has less left", at(-time.Hour), at(day - time.Hour), at(0), "86400", day - time.Hour},
		{"expires_in is shorter", at(0), at(day), at(0), "3600", time.Hour},
		{"a fraction", at(0), at(day), at(0), "1.5", 1500 * time.Millisecond},
		{"a fraction as a string", at(0), at(day), at(0), `"1.5"`, 1500 * time.Millisecond},
		{"no Date", at(0), at(day), time.Time{}, "", day},
		{"no Date, expires_in is shorter", at(0), at(day), time.Time{}, "60", time.Minute},
		{"a Date long ago does not prolong it", at(0), at(day), at(-1000 * day), "", day},
		{"no exp", at(0), time.Time{}, at(0), "60", time.Minute},
		{"no iat", time.Time{}, at(day), at(time.Hour), "", day - time.Hour},
		{"no expires_in", at(0), at(day), at(0), "", day},
		{"expires_in null", at(0), at(day), at(0), "null", day},
		{"expires_in zero", at(0), at(day), at(0), "0", day},
		{"expires_in negative", at(0), at(day), at(0), "-5", day},
		{"expires_in too small to count", at(0), at(day), at(0), "1e-300", day},
		{"expires_in longer than any token lives", at(0), at(day), at(0), "1e300", day},
		{"expires_in beyond all numbers", at(0), at(day), at(0), "1e999", day},
		{"expires_in NaN", at(0), at(day), at(0), `"NaN"`, day},
		{"expires_in infinite", at(0), at(day), at(0), `"Infinity"`, day},
		{"expires_in a list", at(0), at(day), at(0), "[1]", day},
		{"expires_in true", at(0), at(day), at(0), "true", day},
		{"an exp in the year 9999", at(0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), at(0), "", tenYears},
		{"expired on arrival", at(-2 * day), at(-day), at(0), "86400", 0},
		{"expires as it arrives", at(-day), at(0), at(0), "86400", 0},
		{"expires before it is made", at(0), at(-day), time.Time{}, "86400", 0},
		{"nothing says how long", time.Time{}, time.Time{}, at(0), "", 0},
		{"exp alone says nothing without a clock", time.Time{}, at(day), time.Time{}, "", 0},
	}
	for _, tt := range tests {
		got, err := lifetime(Claims{IssuedAt: tt.iat, Expires: tt.exp}, tt.date, expiresIn(json.RawMessage(tt.expiresIn)))
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: lifetime = %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// What contradicts itself is named, with the times: it may be a proxy's clock.
func TestTokenThatContradictsItself(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name           string
		iat, exp, date time.Time
		want           string
	}{
		{"it ends before it begins", monday, monday.Add(-day), monday, "the answer's token ends before it begins: iat is " + inUTC(monday) + ", exp " + inUTC(monday.Add(-day))},
		{"the answer is years later", monday, monday.Add(day), monday.AddDate(3, 0, 0), "the answer's token has expired already: exp is " + inUTC(monday.Add(day)) + ", the answer's Date " + inUTC(monday.AddDate(3, 0, 0))},
	} {
		_, err := lifetime(Claims{IssuedAt: tt.iat, Expires: tt.exp}, tt.date, day)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	// One from the future is taken: whose clock is wrong cannot be told.
	if got, err := lifetime(Claims{IssuedAt: monday.Add(day), Expires: monday.Add(2 * day)}, monday, day); err != nil || got != day {
		t.Errorf("iat in the future: lifetime = %v, %v, want a day", got, err)
	}
}

func TestTokenResponse(t *testing.T) {
	token := tokenFor(t, ctxOne)
	tests := []struct {
		name string
		body string
		ok   bool
	}{
		{"as documented", `{"access_token":"` + token + `","token_type":"Bearer","expires_in":86400.0,"scope":"` + ctxOne + `"}`, true},
		{"token_type in lower case", `{"access_token":"` + token + `","token_type":"bearer","expires_in":1}`, true},
		{"no token_type", `{"access_token":"` + token + `","expires_in":1}`, true},
		{"a scope that is not a string does not matter", `{"access_token":"` + token + `","scope":[1]}`, true},
		{"another token_type", `{"access_token":"` + token + `","token_type":"mac"}`, false},
		{"a token_type that is a number", `{"access_token":"` + token + `","token_type":1}`, false},
		{"no token", `{"token_type":"Bearer"}`, false},
		{"a token that is null", `{"access_token":null}`, false},
		{"a token with a line break", `{"access_token":"` + token + `\n"}`, false},
		{"a token with a header behind it", `{"access_token":"` + token + `\r\nX-Evil: 1"}`, false},
		{"a token over 48 KiB", `{"access_token":"` + token + strings.Repeat("a", 48<<10) + `"}`, false},
		{"an opaque token", `{"access_token":"c4nary"}`, false},
		{"nothing", ``, false},
		{"a page", `<html>` + token + `</html>`, false},
		{"half of it", `{"access_token":"` + token, false},
		{"a list", `["` + token + `"]`, false},
		{"null", `null`, false},
		{"something behind it", `{"access_token":"` + token + `"} {}`, false},
	}
	for _, tt := range tests {
		got, err := parseTokenResponse(&response{body: []byte(tt.body), date: monday, received: monday})
		if (err == nil) != tt.ok {
			t.Errorf("%s: error = %v, want none to be %v", tt.name, err, tt.ok)
		}
		if err == nil && got.Access.Reveal() != token {
			t.Errorf("%s: got another token", tt.name)
		}
		if err != nil && (strings.Contains(err.Error(), token[:20]) || strings.Contains(err.Error(), "c4nary")) {
			t.Errorf("%s: error %q quotes the answer", tt.name, err)
		}
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(tokenFor(f, ctxOne))
	f.Add(jwt(f, map[string]any{"sub": alice, "scope": ctxOne, "exp": 1e300}))
	f.Add(jwt(f, map[string]any{"sub": "\x1b", "scope": ctxOne}))
	f.Add(jwt(f, []int{1}))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := ParseClaims(token)
		if err != nil {
			if quotes(err.Error(), token) || !showable(err.Error()) {
				t.Errorf("error %q quotes the token", err)
			}
			return
		}
		if !isToken(token) {
			t.Errorf("accepted what is no token: %q", token)
		}
		for _, at := range []time.Time{claims.IssuedAt, claims.Expires} {
			if !at.IsZero() && (at.Before(time.Unix(0, 0)) || at.UTC().Year() > 9999) {
				t.Errorf("accepted the time %v", at)
			}
		}
		if claims.Subject == "" || claims.Context == "" {
			t.Errorf("accepted claims without sub or scope: %+v", claims)
		}
		for _, s := range append([]string{claims.Subject, claims.Context}, append(claims.Roles, claims.Contexts...)...) {
			if !showable(s) {
				t.Errorf("accepted a claim that cannot be shown: %q", s)
			}
		}
	})
}

func FuzzTokenResponse(f *testing.F) {
	token := tokenFor(f, ctxOne)
	for _, expiresIn := range []string{"86400", "1e300", "-1", `"NaN"`, "null", "[]"} {
		f.Add(fmt.Appendf(nil, `{"access_token":%q,"token_type":"Bearer","expires_in":%s}`, token, expiresIn), monday.Unix())
	}
	f.Add([]byte(`{"access_token":"a.b.c"}`), int64(0))
	f.Fuzz(func(t *testing.T, body []byte, date int64) {
		got, err := parseTokenResponse(&response{body: body, date: time.Unix(date, 0), received: monday})
		if err != nil {
			if quotes(err.Error(), string(body)) || !showable(err.Error()) {
				t.Errorf("error %q quotes the answer", err)
			}
			return
		}
		if !isToken(got.Access.Reveal()) {
			t.Errorf("accepted what is no token: %q", got.Access.Reveal())
		}
		sameClaims(t, got.Access.Reveal(), got.Claims)
		if got.Lifetime <= 0 || got.Lifetime > tenYears || !got.Expires().After(got.Received) {
			t.Errorf("accepted a token that lives %v", got.Lifetime)
		}
		if end := got.Claims.Expires; !end.IsZero() && got.Lifetime > end.Sub(time.Unix(date, 0)) {
			t.Errorf("accepted a token for %v, %v after its end", got.Lifetime, got.Lifetime-end.Sub(time.Unix(date, 0)))
		}
	})
}
