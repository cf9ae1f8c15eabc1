package oauth

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

func TestPaste(t *testing.T) {
	_, c := serveIdentity(t)
	accepted := map[string]func(redirect string) string{
		"the address":                      func(s string) string { return s },
		"white space around it":            func(s string) string { return " \t" + s + "\r\n" },
		"as some browsers show it":         func(s string) string { return strings.TrimPrefix(s, "http://") },
		"the query":                        func(s string) string { return s[strings.Index(s, "?"):] },
		"the query without question mark":  func(s string) string { return s[strings.Index(s, "?")+1:] },
		"a parameter that nobody knows of": func(s string) string { return s + "&session_state=1" },
	}
	for name, form := range accepted {
		b := begin(t, c, ctxOne)
		if err := b.Paste(form(redirectOf(t, b).String())); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if token, err := b.Wait(t.Context()); err != nil || token.Claims.Subject != alice {
			t.Errorf("%s: token of %q, %v, want alice's", name, token.Claims.Subject, err)
		}
	}

	b := begin(t, c, ctxOne)
	good := redirectOf(t, b)
	changed := func(pairs ...string) string {
		u := *good
		q := u.Query()
		for i := 0; i < len(pairs); i += 2 {
			if q.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
				q.Del(pairs[i])
			}
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	refused := []struct{ name, text, want string }{
		{"nothing", " \n", "nothing was pasted"},
		{"words", "what do I do", "no address"},
		{"the address to visit", b.URL, "another page"},
		{"another port", "http://127.0.0.1:1" + callbackPath + "?" + good.RawQuery, "another page"},
		{"localhost", strings.Replace(good.String(), "127.0.0.1", "localhost", 1), "another page"},
		{"the state of another login", changed("state", "other"), "another login"},
		{"no state", changed("state", ""), "another login"},
		{"no code", changed("code", ""), "no code"},
		{"a code twice", good.String() + "&code=2", "twice"},
		{"a state twice", good.String() + "&state=" + b.state, "twice"},
		{"half an escape", good.String() + "&x=%4", "damaged"},
		{"a line of over 64 KiB", good.String() + "&x=" + strings.Repeat("x", 64<<10), "too long"},
	}
	for _, tt := range refused {
		err := b.Paste(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), good.Query().Get("code")) {
			t.Errorf("%s: error = %v, want %q and no code", tt.name, err, tt.want)
		}
	}
	if err := b.Paste(good.String()); err != nil {
		t.Errorf("after wrong ones the right one: %v", err)
	}
	if _, err := b.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// Only who knows the state can end a login, whatever else he sends.
func FuzzRedirect(f *testing.F) {
	const state = "STATE0123456789"
	for _, query := range []string{
		"code=1&state=" + state, "code=1&state=" + state + "&iss=http://127.0.0.1:1", "error=access_denied&state=" + state,
		"state=" + state, "code=1&state=other", "code=1&code=2&state=" + state, "http://127.0.0.1:1/callback?code=1&state=" + state,
		"code=%31&st%61te=" + state, "code=1;state=" + state, "code=1&state[]=" + state, "%zz", "code=1&STATE=" + state,
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := &BrowserLogin{
			RedirectURI: "http://127.0.0.1:1" + callbackPath,
			state:       state,
			endpoints:   endpoints{issuer: "http://127.0.0.1:1"},
			arrived:     make(chan redirect, 1),
		}
		if err := b.Paste(text); err != nil {
			if len(b.arrived) != 0 {
				t.Errorf("%q is refused (%v) and counts all the same", text, err)
			}
			if quotes(err.Error(), text) {
				t.Errorf("%q is refused with %q, which quotes it", text, err)
			}
			return
		}
		r := <-b.arrived
		if (r.code == "") == (r.err == nil) {
			t.Errorf("%q gives the code %q and the error %v, want one of them", text, r.code.Reveal(), r.err)
		}
		if r.err != nil && (!showable(r.err.Error()) || utf8.RuneCountInString(r.err.Error()) > 3*maxMessage) {
			t.Errorf("%q ends the login with %q", text, r.err)
		}
		_, query, found := strings.Cut(text, "?")
		if !found {
			query = strings.TrimSpace(text)
		}
		q, err := url.ParseQuery(query)
		if err != nil || len(q["state"]) != 1 || q.Get("state") != state {
			t.Errorf("%q is accepted without the state", text)
		}
	})
}

// Whoever answers in another's name would be sent our code (RFC 9207).
func TestIssuerOfTheRedirect(t *testing.T) {
	const never = "no document"
	tests := []struct {
		name     string
		document string // "promises" iss or not
		iss      string // of the redirect; "" means none
		wantErr  bool
	}{
		{"promised and there", "promises", "ours", false},
		{"promised and not there", "promises", "", true},
		{"promised, but another's", "promises", "https://evil.example", true},
		{"not promised and not there", "says nothing", "", false},
		{"not promised, but there", "says nothing", "ours", false},
		{"not promised, but another's", "says nothing", "https://evil.example", true},
		{"not there, without a document", never, "", false},
		{"another's, without a document", never, "https://evil.example", true},
		{"the claim iss of tokens", never, platform.Issuer, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, c := serveIdentity(t, onDiscovery(func(origin string, document map[string]any) map[string]any {
				document["authorization_response_iss_parameter_supported"] = tt.document == "promises"
				if tt.document == never {
					return nil
				}
				return document
			}))
			b := begin(t, c, ctxOne)
			u := redirectOf(t, b)
			q := u.Query()
			switch tt.iss {
			case "":
				q.Del("iss")
			case "ours": // as it is
			default:
				q.Set("iss", tt.iss)
			}
			if err := b.Paste("?" + q.Encode()); err != nil {
				t.Fatal(err)
			}
			want := ""
			if tt.wantErr {
				want = "checking the redirect: it does not come from " + originOf(c.BaseURL)
			}
			got := ""
			if _, err := b.Wait(t.Context()); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("error = %q, want %q", got, want)
			}
		})
	}
}
