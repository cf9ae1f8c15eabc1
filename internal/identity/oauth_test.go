package identity_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

const (
	callback = "http://127.0.0.1:50123/callback"
	verifier = "a-code-verifier-of-at-least-43-characters-0123456789"
)

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is an authorization request with PKCE, changed by pairs of a name
// and a value, "" for taking the parameter out.
func request(changes ...string) url.Values {
	q := url.Values{
		"response_type": {"code"}, "client_id": {work}, "redirect_uri": {callback}, "scope": {"openid"},
		"state": {"s&t=te"}, "nonce": {"n"}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	return change(q, changes)
}

func change(q url.Values, changes []string) url.Values {
	for i := 0; i < len(changes); i += 2 {
		if q.Set(changes[i], changes[i+1]); changes[i+1] == "" {
			q.Del(changes[i])
		}
	}
	return q
}

// authorize sends an authorization request from a browser that is logged in.
func (s *server) authorize(q url.Values) *http.Response {
	s.t.Helper()
	return s.do("GET", s.url+identity.BasePath+"/oauth/authorize?"+q.Encode(), "", "Cookie: theme=dark; dtz-auth=of-another-port; dtz-auth="+s.issue(home))
}

// code is an authorization code for q.
func (s *server) code(q url.Values) string {
	s.t.Helper()
	resp := s.authorize(q)
	body := read(s.t, resp)
	location, err := resp.Location()
	if resp.StatusCode != http.StatusFound || err != nil {
		s.t.Fatalf("authorize = %d %s, want 302 back to the client", resp.StatusCode, body)
	}
	return location.Query().Get("code")
}

// redeem asks for a token for a code, with the form changed as by [request].
func (s *server) redeem(code string, changes ...string) (status int, answer string) {
	s.t.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {work}, "client_secret": {work},
		"redirect_uri": {callback}, "code": {code}, "code_verifier": {verifier},
	}
	return s.call("POST", "/oauth/token", change(form, changes).Encode(), "Content-Type: application/x-www-form-urlencoded")
}

func TestBrowserLogin(t *testing.T) {
	s := newServer(t)
	resp := s.authorize(request())
	read(t, resp)
	location, err := resp.Location()
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("authorize = %d (%v), want 302", resp.StatusCode, err)
	}
	if !strings.HasPrefix(location.String(), callback+"?") {
		t.Errorf("the browser is sent to %s, want %s", location, callback)
	}
	q := location.Query()
	if q.Get("state") != "s&t=te" || q.Get("iss") != s.url || q.Get("code") == "" || q.Has("error") {
		t.Errorf("the browser brings back %v, want a code, the state and iss %s", q, s.url)
	}
	status, answer := s.redeem(q.Get("code"))
	if status != 200 {
		t.Fatalf("redeeming the code = %d %s, want 200", status, answer)
	}
	token, err := s.parse(decode(t, answer)["access_token"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if scope := token.Claims.(jwt.MapClaims)["scope"]; scope != work {
		t.Errorf("scope = %v, want the client's context %s", scope, work)
	}
	if status, answer := s.redeem(q.Get("code")); status != 400 {
		t.Errorf("redeeming the code again = %d %s, want 400", status, answer)
	}
}

func TestCodeIsRefused(t *testing.T) {
	s := newServer(t)
	tests := []struct {
		name      string
		authorize []string // changes
		redeem    []string
		want      int
	}{
		{"all as it should be", nil, nil, 200},
		{"the client in its other spelling", []string{"client_id", "work0001"}, nil, 200},
		{"no PKCE at all", []string{"code_challenge", "", "code_challenge_method", ""}, []string{"code_verifier", ""}, 200},
		{"no verifier", nil, []string{"code_verifier", ""}, 400},
		{"another verifier", nil, []string{"code_verifier", verifier + "0"}, 400},
		{"the challenge for a verifier", nil, []string{"code_verifier", challenge(verifier)}, 400},
		{"a verifier whose challenge somebody took out", []string{"code_challenge", "", "code_challenge_method", ""}, nil, 400},
		{"another redirect URI", nil, []string{"redirect_uri", "http://127.0.0.1:50124/callback"}, 400},
		{"another client", nil, []string{"client_id", home, "client_secret", home}, 400},
		{"a client that nobody knows", nil, []string{"client_id", "context-nobody01", "client_secret", "context-nobody01"}, 401},
		{"another client's secret", nil, []string{"client_secret", home}, 401},
		{"no secret", nil, []string{"client_secret", ""}, 401},
		{"another grant type", nil, []string{"grant_type", "refresh_token"}, 400},
		{"an unknown code", nil, []string{"code", "unknown"}, 400},
		{"no code", nil, []string{"code", ""}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := s.redeem(s.code(request(tt.authorize...)), tt.redeem...)
			if status != tt.want {
				t.Fatalf("redeeming = %d %s, want %d", status, answer, tt.want)
			}
			if _, hasMsg := decode(t, answer)["msg"]; hasMsg != (tt.want != 200) {
				t.Errorf("%d with %s, want a msg only for a refusal", status, answer)
			}
		})
	}
}

func TestCodeIsGoneAfterOneTry(t *testing.T) {
	s := newServer(t)
	code := s.code(request())
	if status, _ := s.redeem(code, "code_verifier", "guessed"); status != 400 {
		t.Fatalf("redeeming with a guess = %d, want 400", status)
	}
	if status, _ := s.redeem(code); status != 400 {
		t.Errorf("redeeming after a guess = %d, want 400", status)
	}
}

func TestCodeLivesSixtySeconds(t *testing.T) {
	s := newServer(t)
	early, late := s.code(request()), s.code(request())
	s.advance(59 * time.Second)
	if status, answer := s.redeem(early); status != 200 {
		t.Errorf("redeeming after 59 s = %d %s, want 200", status, answer)
	}
	s.advance(time.Second)
	if status, _ := s.redeem(late); status != 400 {
		t.Errorf("redeeming after 60 s = %d, want 400", status)
	}
}

func TestCodeInTheQueryIsNotRead(t *testing.T) {
	s := newServer(t)
	status, answer := s.call("POST", "/oauth/token?grant_type=authorization_code&client_id="+work+"&client_secret="+work+
		"&code_verifier="+verifier+"&redirect_uri="+url.QueryEscape(callback)+"&code="+s.code(request()), "", "Content-Type: application/x-www-form-urlencoded")
	if status != 400 {
		t.Errorf("= %d %s, want 400", status, answer)
	}
}

func TestAuthorizationRequest(t *testing.T) {
	s := newServer(t)
	const registered = "https://app.example.com/cb?x=1"
	if status, answer := s.call("POST", "/oauth/register", `{"redirect_uris":["`+registered+`"],"client_name":"app"}`, "Authorization: Bearer "+s.issue(work)); status != 200 {
		t.Fatalf("register = %d %s", status, answer)
	}
	tests := []struct {
		name    string
		changes []string
		want    string // what Location begins with; "" means 400 and no redirect
		err     string // the error that the client is told
	}{
		{"loopback", nil, callback + "?", ""},
		{"loopback of IPv6", []string{"redirect_uri", "http://[::1]:8080/"}, "http://[::1]:8080/?", ""},
		{"a registered address keeps its query", []string{"redirect_uri", registered}, "https://app.example.com/cb?code=", ""},
		{"a registered address, but of another client", []string{"redirect_uri", registered, "client_id", home}, "", ""},
		{"an address below a registered one", []string{"redirect_uri", "https://app.example.com/cb/evil?x=1"}, "", ""},
		{"an address that is not registered", []string{"redirect_uri", "https://evil.example.com/"}, "", ""},
		{"a name, which may resolve to anywhere", []string{"redirect_uri", "http://localhost:8080/"}, "", ""},
		{"a name that begins like loopback", []string{"redirect_uri", "http://127.0.0.1.evil.example.com/"}, "", ""},
		{"loopback as a user name", []string{"redirect_uri", "http://127.0.0.1@evil.example.com/"}, "", ""},
		{"a fragment", []string{"redirect_uri", callback + "#"}, "", ""},
		{"a script", []string{"redirect_uri", "javascript:alert(1)"}, "", ""},
		{"no scheme", []string{"redirect_uri", "//evil.example.com/"}, "", ""},
		{"a line break", []string{"redirect_uri", callback + "\r\nX: y"}, "", ""},
		{"no redirect URI", []string{"redirect_uri", ""}, "", ""},
		{"an unknown client", []string{"client_id", "context-nobody01"}, "", ""},
		{"no client", []string{"client_id", ""}, "", ""},
		{"a context that the user may not use", []string{"client_id", foreign}, callback + "?", "access_denied"},
		{"the implicit flow", []string{"response_type", "token"}, callback + "?", "unsupported_response_type"},
		{"a plain challenge", []string{"code_challenge_method", "plain"}, callback + "?", "invalid_request"},
		{"a challenge without a method, which means plain", []string{"code_challenge_method", ""}, callback + "?", "invalid_request"},
		{"a method without a challenge", []string{"code_challenge", ""}, callback + "?", "invalid_request"},
		{"a challenge that is too short", []string{"code_challenge", "abc"}, callback + "?", "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := s.authorize(request(tt.changes...))
			body := read(t, resp)
			location := resp.Header.Get("Location")
			if tt.want == "" {
				if resp.StatusCode != 400 || location != "" || decode(t, body)["msg"] == nil {
					t.Errorf("= %d to %q: %s, want 400 and a msg", resp.StatusCode, location, body)
				}
				return
			}
			u, err := url.Parse(location)
			if err != nil || resp.StatusCode != http.StatusFound || !strings.HasPrefix(location, tt.want) {
				t.Fatalf("= %d to %q: %s, want 302 to %s", resp.StatusCode, location, body, tt.want)
			}
			q := u.Query()
			if q.Get("error") != tt.err || q.Has("code") != (tt.err == "") || q.Get("state") != "s&t=te" || q.Get("iss") != s.url {
				t.Errorf("the client gets %v, want error %q, state and iss", q, tt.err)
			}
		})
	}
	twice := request()
	twice.Add("redirect_uri", callback)
	if resp := s.authorize(twice); resp.StatusCode != 400 {
		t.Errorf("a parameter that is there twice = %d %s, want 400", resp.StatusCode, read(t, resp))
	}
}

func TestRegisterRefuses(t *testing.T) {
	s := newServer(t)
	bearer := "Authorization: Bearer " + s.issue(work)
	tests := []struct {
		name, body, header string
		want               int
	}{
		{"without authentication", `{"redirect_uris":["https://app.example.com/"]}`, "X-Other: x", 401},
		{"no addresses", `{}`, bearer, 400},
		{"too many addresses", `{"redirect_uris":[` + strings.Repeat(`"https://app.example.com/",`, 16) + `"https://app.example.com/"]}`, bearer, 400},
		{"http elsewhere", `{"redirect_uris":["http://app.example.com/"]}`, bearer, 400},
		{"a host that would end a Content-Security-Policy", `{"redirect_uris":["https://app.example.com;script-src/"]}`, bearer, 400},
	}
	for _, tt := range tests {
		if status, answer := s.call("POST", "/oauth/register", tt.body, tt.header); status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, status, answer, tt.want)
		}
	}
}

func TestDiscoveryLeadsToTheKey(t *testing.T) {
	s := newServer(t)
	document := decode(t, read(t, s.do("GET", s.url+"/.well-known/openid-configuration", "")))
	if document["issuer"] != s.url || document["token_endpoint"] != s.url+identity.BasePath+"/oauth/token" {
		t.Errorf("discovery = %v, want addresses at %s", document, s.url)
	}
	keys := decode(t, read(t, s.do("GET", document["jwks_uri"].(string), "")))["keys"].([]any)
	jwk := keys[0].(map[string]any)
	number := func(name string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(jwk[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(b)
	}
	key := &rsa.PublicKey{N: number("n"), E: int(number("e").Int64())}
	if !key.Equal(s.PublicKey()) || jwk["kid"] != "dtz1" || jwk["alg"] != "RS256" {
		t.Errorf("the key set holds %v, want the key of the tokens", jwk)
	}
}
