package identity_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// parse verifies a token with the published key at the service's present time.
func (s *server) parse(token string) (*jwt.Token, error) {
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(s.PublicKeyPEM()))
	if err != nil {
		return nil, err
	}
	return jwt.Parse(token, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("dtz.rocks"), jwt.WithAudience("dtz.rocks"),
		jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.time), jwt.WithStrictDecoding())
}

func TestTokenIsThePlatforms(t *testing.T) {
	s := newServer(t)
	_, answer := s.call("POST", "/token/auth", `{"username":"alice","password":"`+password+`"}`)
	response := decode(t, answer)
	if response["token_type"] != "Bearer" || response["scope"] != work {
		t.Errorf("token response %v, want a Bearer token in %s", response, work)
	}
	// The clock says a quarter past the second in which the token begins.
	if !strings.Contains(answer, `"expires_in":86399.75`) {
		t.Errorf("%s, want what is left of 24 hours", answer)
	}
	token, err := s.parse(response["access_token"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if token.Header["kid"] != "dtz1" || token.Header["typ"] != "JWT" || token.Header["alg"] != "RS256" {
		t.Errorf("header %v, want RS256, JWT, dtz1", token.Header)
	}
	claims := token.Claims.(jwt.MapClaims)
	now := float64(s.time().Unix())
	for name, want := range map[string]any{
		"iss": "dtz.rocks", "aud": "dtz.rocks", "sub": alice, "scope": work, "iat": now, "exp": now + 24*60*60,
	} {
		if claims[name] != want {
			t.Errorf("claim %s = %v, want %v", name, claims[name], want)
		}
	}
	if got, want := texts(claims["contexts"]), []string{work, home}; !slices.Equal(got, want) {
		t.Errorf("contexts = %v, want %v", got, want)
	}
	want := []string{
		platform.RoleFor(platform.RegistryRole, work), platform.RoleFor(platform.RegistryRole, home),
		"https://dtz.rocks/identity/admin/" + alice, "https://dtz.rocks/containers/admin/" + home,
	}
	if got := texts(claims["roles"]); !slices.Equal(got, want) {
		t.Errorf("roles = %v, want %v", got, want)
	}
	_, info := s.call("GET", "/oauth/userinfo", "", "Authorization: Bearer "+token.Raw)
	if got := decode(t, info); got["jti"] != claims["jti"] || got["exp"] != claims["exp"] {
		t.Errorf("userinfo = %s, want the token's claims %v", info, claims)
	}
}

func texts(array any) []string {
	var out []string
	for _, v := range array.([]any) {
		out = append(out, v.(string))
	}
	return out
}

func TestExpiresInIsAFloat(t *testing.T) {
	s := newServer(t, func(c *identity.Config) { c.Lifetime = 20 * time.Second })
	s.advance(750 * time.Millisecond) // to a whole second
	_, answer := s.call("POST", "/token/refresh", "", "Authorization: Bearer "+s.issue(work))
	if !strings.Contains(answer, `"expires_in":20.0`) {
		t.Errorf("%s, want expires_in 20.0", answer)
	}
}

func TestTokensOfOneSecondDiffer(t *testing.T) {
	s := newServer(t)
	if a, b := s.issue(work), s.issue(work); a == b {
		t.Error("two tokens are the same")
	}
}

func TestExpiredTokenCannotBeRefreshed(t *testing.T) {
	s := newServer(t)
	token := s.issue(work)
	s.advance(24*time.Hour - time.Second)
	if status, answer := s.call("POST", "/token/refresh", "", "Authorization: Bearer "+token); status != 200 {
		t.Fatalf("refresh shortly before the end = %d %s, want 200", status, answer)
	}
	s.advance(time.Second)
	if status, answer := s.call("POST", "/token/refresh", "", "Authorization: Bearer "+token); status != 401 || answer != `{"msg":"token expired"}`+"\n" {
		t.Errorf("refresh after the end = %d %s, want 401 token expired", status, answer)
	}
	if _, err := s.parse(token); err == nil {
		t.Error("the expired token still verifies")
	}
}

func TestDateIsTheServicesClock(t *testing.T) {
	s := newServer(t)
	s.advance(100 * 24 * time.Hour)
	resp := s.do("GET", s.url+identity.BasePath+"/context", "")
	read(t, resp)
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || !date.Equal(s.time().Truncate(time.Second)) {
		t.Errorf("Date: %v (%v), want %v", date, err, s.time())
	}
}

func TestForeignTokensAreRefused(t *testing.T) {
	s := newServer(t)
	now := s.time().Unix()
	good := jwt.MapClaims{"iss": "dtz.rocks", "aud": "dtz.rocks", "sub": alice, "scope": work, "iat": now, "exp": now + 60, "jti": "7.x"}
	tests := []struct {
		name  string
		claim string
		value any // nil: without it
		want  int
	}{
		{"nothing changed", "typ", "JWT", 200},
		{"another issuer", "iss", "example.com", 401},
		{"no issuer", "iss", nil, 401},
		{"another audience", "aud", "example.com", 401},
		{"no end", "exp", nil, 401},
		{"an unknown identity", "sub", "identity-carol001", 401},
		{"an identity that is a number", "sub", 7, 401},
		{"no context", "scope", nil, 401},
		{"a context of somebody else", "scope", foreign, 401},
		{"no jti", "jti", nil, 401},
	}
	for _, tt := range tests {
		claims := jwt.MapClaims{}
		for name, value := range good {
			claims[name] = value
		}
		if claims[tt.claim] = tt.value; tt.value == nil {
			delete(claims, tt.claim)
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(signingKey())
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := s.call("GET", "/context", "", "Authorization: Bearer "+token); status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, status, answer, tt.want)
		}
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, good).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := s.call("GET", "/context", "", "Authorization: Bearer "+unsigned); status != 401 {
		t.Errorf("a token without a signature: %d, want 401", status)
	}
}

func TestRevokeSessions(t *testing.T) {
	s := newServer(t)
	old := s.issue(work)
	bob, err := s.Issue("identity-bob00001", "")
	if err != nil {
		t.Fatal(err)
	}
	s.RevokeSessions("alice001") // either spelling
	for token, want := range map[string]int{old: 401, bob: 200, s.issue(work): 200} {
		if status, answer := s.call("POST", "/token/refresh", "", "Authorization: Bearer "+token); status != want {
			t.Errorf("refresh = %d %s, want %d", status, answer, want)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	s := newServer(t)
	for subject, context := range map[string]string{"identity-carol001": "", alice: foreign} {
		if _, err := s.Issue(subject, context); err == nil {
			t.Errorf("Issue(%q, %q) gives a token", subject, context)
		}
		if _, err := s.CreateKey(subject, context, ""); err == nil {
			t.Errorf("CreateKey(%q, %q) gives a key", subject, context)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	s := newServer(t)
	token := s.issue(work)
	var seen sync.Map
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			status, answer := s.call("POST", "/token/refresh", "", "Authorization: Bearer "+token)
			if _, twice := seen.LoadOrStore(answer, true); status != 200 || twice {
				t.Errorf("refresh = %d, the same token twice: %v", status, twice)
			}
		})
	}
	wg.Wait()
	if got := s.Calls("/token/refresh"); got != 16 {
		t.Errorf("Calls = %d, want 16", got)
	}
}
