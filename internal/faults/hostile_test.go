package faults

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// evil is what nobody is to see as it is: a colour, a terminal's title, a
// control sequence of C1, text that runs backwards, line breaks of four kinds
// with a line that looks like another's, and what ends a string.
const evil = "a\x1b[31mb\x1b]0;owned\ac\u009b2Jd\u202egnp.exe\u2066e\r\nforged: line\u2028forged: line\u0085forged: line\x7f\"'\\"

// evilText is evil with what no environment can hold.
const evilText = evil + "\x00\xff"

// asJSON is s as a string in JSON that says all of it: json.Marshal would mend
// invalid UTF-8.
func asJSON(s string) string {
	text, err := json.Marshal(strings.ToValidUTF8(s, "\uffff"))
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(text), "\uffff", "\xff")
}

// evilToken is a token with such claims, and more of the right ones.
func evilToken(name string, value any) string {
	claims := map[string]any{
		"iss": "dtz.rocks", "aud": "dtz.rocks", "sub": Subject, "scope": Context, "contexts": []string{Context, Context2},
		"roles": []string{}, "iat": time.Now().Unix(), "exp": time.Now().Add(24 * time.Hour).Unix(),
	}
	claims[name] = value
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "RS256"}) + "." + part(claims) + ".c2lnbmF0dXJl"
}

// only is f for the calls named, where all others are answered as they should be.
func only(f Fault, calls ...string) Fault {
	return Fault{Name: f.Name, answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
		for _, call := range calls {
			if strings.TrimPrefix(r.URL.Path, identity.BasePath) == call {
				f.answer(s, w, r)
				return
			}
		}
		s.Identity.ServeHTTP(w, r)
	}}
}

func named(name string, f Fault) Fault {
	f.Name = name
	return f
}

// sends answers every request with text, which need not be HTTP.
func sends(name, text string) Fault {
	return Fault{Name: name, answer: func(_ *Service, w http.ResponseWriter, _ *http.Request) {
		if conn, _ := hijack(w); conn != nil {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}}
}

// evilAnswers are what a service sends that has been taken over, or that somebody
// in between speaks for.
func evilAnswers() []Fault {
	const ok, kind = http.StatusOK, "application/json"
	long := strings.Repeat("A", 64<<10)
	token := func(name, claim string, value any) Fault {
		return named(name, Answers(ok, kind, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":86400}`, evilToken(claim, value))))
	}
	raw := func(name, access string) Fault {
		return named(name, Answers(ok, kind, `{"access_token":`+asJSON(access)+`,"expires_in":86400}`))
	}
	good := evilToken("more", 1)
	return []Fault{
		named("a message", Answers(401, kind, `{"msg":`+asJSON(evilText)+`}`)),
		named("a description", Answers(400, kind, `{"error":`+asJSON(evilText)+`,"error_description":`+asJSON(evilText)+`}`)),
		named("an old message", Answers(403, kind, `{"status":`+asJSON(evilText)+`}`)),
		named("a message of 64 KiB", Answers(401, kind, `{"msg":"`+long+`"}`)),
		named("the same name twice", Answers(401, kind, `{"msg":"a","msg":`+asJSON(evilText)+`}`)),
		named("JSON of 100,000 levels", Answers(ok, kind, strings.Repeat(`{"access_token":`, 100_000))),
		named("an error of 100,000 levels", Answers(401, kind, `{"msg":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`)),
		named("text", Answers(ok, "text/plain", evilText)),
		named("a content type", Answers(401, "text/\x1b[31m", evilText)),
		token("a subject", "sub", evilText), token("a context", "scope", evilText), token("an issuer", "iss", evilText),
		token("a role", "roles", []string{evilText}), token("contexts", "contexts", []string{evilText, Context}),
		token("a subject of 30 KiB", "sub", strings.Repeat("a", 30<<10)), token("a context of 30 KiB", "scope", strings.Repeat("a", 30<<10)),
		token("a time beyond all", "exp", 1e300),
		raw("a token with a line break", good+"\n"), raw("a token with a header behind it", good+"\r\nX-Evil: 1"),
		raw("a token with a quote", good+`"`), raw("a token with a NUL", good+"\x00"), raw("a token of 64 KiB", good+long), raw("a token of four parts", good+".x"),
		only(named("ids of contexts", Answers(ok, kind, `[{"contextId":`+asJSON(evilText)+`}]`)), "/context"),
		only(named("an e-mail address", Answers(ok, kind, `{"email":`+asJSON(evilText)+`}`)), "/me/email"),
		only(named("an API key", Answers(ok, "text/plain", "apikey-"+evilText)), "/me/identity/apikey"),
		only(named("a refusal to delete", Answers(403, kind, `{"msg":`+asJSON(evilText)+`}`)), "/me/identity/apikey/{apikey}"),
		sends("a reason", "HTTP/1.1 401 "+strings.NewReplacer("\n", "", "\r", "").Replace(evil)+"\r\nContent-Length: 0\r\n\r\n"),
		sends("a header", "HTTP/1.1 401 No\r\nDate: \x1b[31m\r\nRetry-After: \u202e\r\nWww-Authenticate: \x1b[2J\r\nContent-Length: 0\r\n\r\n"),
		sends("a header that is none", "HTTP/1.1 200 OK\r\n"+evil+"\r\n\r\n"),
		sends("a place to go to", "HTTP/1.1 302 Found\r\nLocation: http://\x1b[31m\u202e/%zz\r\nContent-Length: 0\r\n\r\n"),
		sends("no HTTP", evilText+"\r\n\r\n"),
		sends("a header of 4 MiB", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 4<<20)+"\r\n\r\n{}"),
	}
}

// fit checks that what came out does nothing to a terminal but to stand in it.
func fit(t *testing.T, what string, o Outcome) {
	t.Helper()
	for stream, text := range map[string]string{"standard output": o.Stdout, "standard error": o.Stderr} {
		why := ""
		switch {
		case !utf8.ValidString(text):
			why = "invalid UTF-8"
		case strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }):
			why = "what cannot be shown"
		case text != "" && !strings.HasSuffix(text, "\n") && !json.Valid([]byte(text)):
			why = "a line without an end"
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "forged") {
				why = "another's line"
			}
			if len(line) > 20<<10 && !json.Valid([]byte(text)) && !strings.HasPrefix(line, "eyJ") && !strings.HasPrefix(line, "Authorization") {
				why = fmt.Sprintf("a line of %d bytes", len(line))
			}
		}
		if why != "" {
			t.Errorf("%s: %s has %s: %.2000q", what, stream, why, text)
		}
	}
	if o.Code < 0 || o.Code > 4 {
		t.Errorf("%s: exit code %d: %.2000q", what, o.Code, o.Stderr)
	}
}

// isSecret reports whether s is a token by its shape (RFC 7515 §3.1).
func isSecret(s string) bool {
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || part == "" || strings.ContainsAny(part, "\r\n") {
			return false
		}
	}
	return len(parts) == 3
}

// checkGet checks an answer to Docker, or its refusal, which is one line too.
func checkGet(t *testing.T, what string, o Outcome) {
	t.Helper()
	fit(t, what, o)
	if o.Code == 0 && o.Stdout != "" { // store says nothing
		if !isSecret(o.Secret()) {
			t.Errorf("%s: the answer is %q", what, o.Stdout)
		}
	} else if o.Code != 0 && strings.Count(o.Stdout, "\n") != 1 || strings.Count(o.Stderr, "\n") > 1 {
		t.Errorf("%s: %+v", what, o)
	}
}

// Whatever the identity service answers, to whichever call, neither a terminal
// nor Docker gets what it would obey.
func TestHostileAnswersReachNobody(t *testing.T) {
	testenv.Need(t, "keychain")
	keychain := testenv.Keychain(t)
	for _, f := range evilAnswers() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			m := NewMachineWith(t, s, keychain)
			m.Setenv("DTZ_TIMEOUT", "3s")
			m.Login()
			m.Age(2 * time.Hour)
			s.Break(f)
			checkGet(t, "get", m.Run(Registry, "get"))
			for _, args := range [][]string{
				{"token", "--context", Context2, "--verbose"},
				{"context", "list"},
				{"context", "use", Context2},
				{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--keep", "--verbose"},
				{"status"},
				{"doctor", "--registry", Registry},
				{"status", "--output", "json"},
				{"context", "list", "--output", "json"},
			} {
				if !*soak && len(args) > 2 && args[0] != "token" && args[0] != "login" && args[1] != "use" {
					continue
				}
				o := m.Run(Password, args...)
				fit(t, strings.Join(args, " "), o)
				if args[0] == "token" && o.Code == 0 && !isSecret(strings.TrimSuffix(o.Stdout, "\n")) {
					t.Errorf("token: %q", o.Stdout)
				}
			}
			store := func(user, secret string) string {
				return fmt.Sprintf(`{"ServerURL":%q,"Username":%q,"Secret":%q}`, Registry, user, secret)
			}
			checkGet(t, "store", m.Run(store("apikey", "apikey-abc12345abc12345abc12345"), "store"))
			checkGet(t, "store", m.Run(store("bearer", evilToken("sub", "identity-mallory1")), "store"))
			checkGet(t, "get after all that", m.Run(Registry, "get"))
			fit(t, "logout", m.Run("", "logout", "--all"))
		})
	}
}
