package registry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// What a withdrawn key has signed is remembered no longer, whatever else is.
func TestAWithdrawnKey(t *testing.T) {
	publisher := newPublisher(firstJWK(), secondJWK())
	set := publisher.set()
	fetch(t, set)
	signing := firstKey()
	exchanges := 0
	a := &Authenticator{Verifier: newSetVerifier(t, set), Exchange: func(context.Context, string, string) (string, error) {
		exchanges++
		if signing == secondKey() {
			return secondToken("second"), nil
		}
		return goodToken(), nil
	}}
	try := func(when, token string, want bool) {
		t.Helper()
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		for range 2 {
			if _, err := a.Authenticate(r); (err == nil) != want || err != nil && !isRefused(err) {
				t.Errorf("%s: %v, want it let in: %v", when, err, want)
			}
		}
	}
	key := func(when string, wantExchanges int) {
		t.Helper()
		for range 2 {
			if _, err := ask(t.Context(), a, goodKey); err != nil || exchanges != wantExchanges {
				t.Errorf("%s: %v after %d exchanges, want %d", when, err, exchanges, wantExchanges)
			}
		}
	}
	try("the first key's token", goodToken(), true)
	try("the second key's token", secondToken("second"), true)
	key("an API key", 1)
	hits := a.Stats().TokenHits

	signing = secondKey()
	publisher.publish(secondJWK())
	fetch(t, set)
	try("the first key's token, afterwards", goodToken(), false)
	try("the second key's token, afterwards", secondToken("second"), true)
	if got := a.Stats().TokenHits - hits; got != 2 {
		t.Errorf("%d tokens were remembered afterwards, want the second key's, twice", got)
	}
	key("an API key, afterwards", 2)
}

func TestStats(t *testing.T) {
	a := newTableHandler(t, new(monday), nil).Authenticator
	for _, header := range []http.Header{
		{"Authorization": {"Bearer " + goodToken()}},
		{"Authorization": {"Bearer " + goodToken()}},
		{"Authorization": {"Bearer " + forgedToken()}},
		{"Authorization": {"Negotiate"}},
		{"X-Api-Key": {goodKey}},
		{"X-Api-Key": {goodKey}},
		{"X-Api-Key": {"apikey-zzz99999"}},
		{"X-Api-Key": {"apikey-zzz99999"}},
		{"X-Api-Key": {awayKey}},
		{},
	} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header = header
		_, _ = a.Authenticate(r)
	}
	s := a.Stats()
	for name, size := range map[string]CacheSize{"tokens": s.Tokens, "keys": s.APIKeys, "refusals": s.Refusals} {
		if size.Entries != 1 || size.Bytes < entrySize || size.Bytes > 2*entrySize {
			t.Errorf("%s: %+v, want one entry", name, size)
		}
	}
	s.Tokens, s.APIKeys, s.Refusals = CacheSize{}, CacheSize{}, CacheSize{}
	want := Stats{TokenHits: 1, TokenMisses: 2, KeyHits: 2, Exchanges: 3, ExchangesRefused: 1, ExchangesFailed: 1}
	if s != want {
		t.Errorf("Stats() = %+v, want %+v", s, want)
	}
}

// A token that is remembered is no API key, wherever it stands.
func TestAnAPIKeySourceHoldsNoToken(t *testing.T) {
	a := newTableHandler(t, new(monday), nil).Authenticator
	a.QueryAPIKey = true
	token := goodToken()
	p := verify(t, a.Verifier, token)
	for _, s := range []*source{fromAPIKeyHeader, fromQuery} {
		a.tokens.put(newCacheKey(s.name, token, ""), outcome{profile: p}, p.Expires)
	}
	inHeader := httptest.NewRequest("GET", "/v2/", nil)
	inHeader.Header.Set("X-API-KEY", token)
	for _, r := range []*http.Request{inHeader, httptest.NewRequest("GET", "/v2/?apiKey="+token, nil)} {
		if _, err := a.Authenticate(r); !isRefused(err) {
			t.Errorf("%s: %v, want it refused", r.URL.Path, err)
		}
	}
	if got := a.Stats().TokenHits; got != 0 {
		t.Errorf("%d tokens were looked up", got)
	}
}

func TestASeenTokenEndsWithItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(t, nil)
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+tokenFor(20*time.Second))
		for range 20 {
			if _, err := a.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if _, err := a.Authenticate(r); !hasRule(err, RuleExpired) {
			t.Errorf("after 20 s: %v, want it expired", err)
		}
	})
}

func TestASeenTokenCostsNoAllocation(t *testing.T) {
	a := &Authenticator{Verifier: newVerifier(t, testConfig())}
	a.DenyList = newDenyList(t, denying(`"identity-zzz99999"`, ""))
	token := tokenOfSize(1 << 10)
	for name, header := range map[string]http.Header{
		"Basic":  {"Authorization": {basic("bearer", token)}},
		"Bearer": {"Authorization": {"Bearer " + token}},
		"cookie": {"Cookie": {"theme=dark; dtz-auth=" + token}},
	} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header = header
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := a.Authenticate(r); err != nil {
				t.Fatal(err)
			}
		})
		if allocations != 0 {
			t.Errorf("%s: %v allocations, want none", name, allocations)
		}
	}
}
