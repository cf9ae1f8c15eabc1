package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRotation(t *testing.T) {
	p := newPublisher(firstJWK())
	s := p.set()
	v := newSetVerifier(t, s)
	fetch(t, s)
	ofFirst := verify(t, v, goodToken())

	p.publish(secondJWK(), firstJWK().without("use"))
	fetch(t, s)
	ofSecond := verify(t, v, secondToken("second"))
	verify(t, v, goodToken())
	if ofFirst.retired() || ofSecond.retired() {
		t.Error("a key that is still in the set counts as retired")
	}

	p.publish(secondJWK())
	fetch(t, s)
	if !ofFirst.retired() || ofSecond.retired() {
		t.Errorf("retired: first %v, second %v; want the first alone", ofFirst.retired(), ofSecond.retired())
	}
	if _, err := v.Verify(t.Context(), goodToken()); !hasRule(err, RuleKeyID) {
		t.Errorf("a token of a key that is gone: %v", err)
	}
	verify(t, v, secondToken("second"))

	p.publish(jwk("second", &firstKey().PublicKey))
	fetch(t, s)
	if !ofSecond.retired() {
		t.Error("a key that gave its ID to another does not count as retired")
	}
	if _, err := v.Verify(t.Context(), secondToken("second")); !hasRule(err, RuleSignature) {
		t.Errorf("a token of a key whose ID another has: %v", err)
	}

	p.publish(secondJWK())
	fetch(t, s)
	if !ofSecond.retired() || verify(t, v, secondToken("second")).retired() {
		t.Error("a key that has come back is in force, but what was forgotten stays so")
	}
}

// A cached token is good no longer than its key, and one whose key is out of
// reach is not called bad.
func TestRotationBehindTheHandler(t *testing.T) {
	now := monday
	p := newPublisher(firstJWK(), secondJWK())
	s := p.set()
	s.Now = func() time.Time { return now }
	fetch(t, s)
	h := newHandler(t, func(http.ResponseWriter, *http.Request) {})
	h.Authenticator = &Authenticator{Verifier: newSetVerifier(t, s)}
	answer := func(token string, want int) {
		t.Helper()
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || want == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %s, Retry-After %q, want %d", w.Code, w.Body, w.Header().Get("Retry-After"), want)
		}
	}
	ofFirst, ofSecond := goodToken(), secondToken("second")
	answer(ofFirst, http.StatusOK)
	answer(ofSecond, http.StatusOK)
	p.publish(firstJWK())
	fetch(t, s)
	answer(ofSecond, http.StatusUnauthorized)
	answer(ofFirst, http.StatusOK)

	now = now.Add(refetchInterval)
	p.fails()
	answer(ofSecond, http.StatusServiceUnavailable)
	answer(ofFirst, http.StatusOK)
	now = now.Add(refetchInterval)
	p.publish(firstJWK(), secondJWK())
	answer(ofSecond, http.StatusOK)
}

// While sets come and go, tokens of the key that is in each of them are let in,
// and none of a key that never was.
func TestRotationUnderLoad(t *testing.T) {
	p := newPublisher(firstJWK())
	s := p.set()
	v := newSetVerifier(t, s)
	fetch(t, s)
	foreign := sign(foreignKey(), goodHeader.with("kid", `"second"`).String(), goodClaims.String())
	ofFirst, ofSecond := goodToken(), secondToken("second")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := v.Verify(t.Context(), ofFirst); err != nil {
					t.Errorf("a key that stays: %v", err)
				}
				if _, err := v.Verify(t.Context(), foreign); !hasRule(err, RuleKeyID) && !hasRule(err, RuleSignature) {
					t.Errorf("a key that never was: %v", err)
				}
				profile, err := v.Verify(t.Context(), ofSecond)
				if err == nil && profile.Subject == "" || err != nil && !hasRule(err, RuleKeyID) {
					t.Errorf("a key that comes and goes: %v, %v", profile, err)
				}
			}
		})
	}
	for range 50 {
		p.publish(secondJWK(), firstJWK())
		fetch(t, s)
		p.publish(firstJWK())
		fetch(t, s)
	}
	close(stop)
	clients.Wait()
}

func TestKeysByHandComeFirst(t *testing.T) {
	p := newPublisher(jwk("first", &foreignKey().PublicKey), secondJWK())
	c := testConfig()
	c.Keys, c.JWKS = c.Keys[:1], p.set()
	v := newVerifier(t, c)
	fetch(t, c.JWKS)

	ofFirst := verify(t, v, goodToken())
	verify(t, v, secondToken("second"))
	verify(t, v, sign(firstKey(), goodHeader.without("kid").String(), goodClaims.String()))
	for _, header := range []jsonText{goodHeader, goodHeader.without("kid")} {
		if _, err := v.Verify(t.Context(), sign(foreignKey(), header.String(), goodClaims.String())); !hasRule(err, RuleSignature) {
			t.Errorf("%v, of a published key with the ID of one by hand: %v", header, err)
		}
	}
	p.publish(secondJWK())
	fetch(t, c.JWKS)
	if ofFirst.retired() {
		t.Error("a key by hand counts as retired")
	}
}

func TestTokenWithoutKeyID(t *testing.T) {
	ofFirst := withHeader(goodHeader.without("kid"))
	ofSecond := sign(secondKey(), goodHeader.without("kid").String(), goodClaims.String())
	p := newPublisher(ellipticJWK, secondJWK())
	c := testConfig()
	c.Keys, c.JWKS = c.Keys[:1], p.set()
	v := newVerifier(t, c)

	verify(t, v, ofFirst)
	if _, err := v.Verify(t.Context(), ofSecond); !errors.Is(err, errNoKeys) {
		t.Errorf("before there is a set: %v, want that it cannot be told", err)
	}
	fetch(t, c.JWKS)
	verify(t, v, ofSecond)
	foreign := sign(foreignKey(), goodHeader.without("kid").String(), goodClaims.String())
	if _, err := v.Verify(t.Context(), foreign); !hasRule(err, RuleSignature) {
		t.Errorf("of no key of ours: %v", err)
	}
	if n := p.calls.Load(); n != 1 {
		t.Errorf("%d calls, want none but the first", n)
	}
}

func TestNewKeyIsFetchedWhenFirstSeen(t *testing.T) {
	for name, started := range map[string]bool{"with a set": true, "before there is a set": false} {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		if started {
			fetch(t, s)
		}
		p.publish(firstJWK(), secondJWK())
		before := p.calls.Load()
		verify(t, v, secondToken("second"))
		verify(t, v, goodToken())
		if n := p.calls.Load() - before; n != 1 {
			t.Errorf("%s: %d calls, want 1", name, n)
		}
	}
}

// hang makes the publisher keep everybody waiting until the channel is closed;
// then it answers as it did before.
func (p *publisher) hang() (release chan struct{}) {
	release = make(chan struct{})
	answer := *p.answer.Load()
	p.answers(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			answer(w, r)
		case <-r.Context().Done():
		}
	})
	return release
}

// A call for unknown key IDs is one for all of them; nobody else waits for it.
func TestUnknownKeyIDsShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		fetch(t, s)
		p.publish(firstJWK(), secondJWK())
		release := p.hang()

		impatient, leave := context.WithCancelCause(t.Context())
		left := make(chan error)
		go func() {
			_, err := v.Verify(impatient, secondToken("second"))
			left <- err
		}()
		synctest.Wait()
		const waiting = 50
		known, invented := make(chan error, waiting), make(chan error, waiting)
		for i := range waiting {
			go func() {
				_, err := v.Verify(t.Context(), secondToken("second"))
				known <- err
			}()
			go func() {
				_, err := v.Verify(t.Context(), secondToken(fmt.Sprint("invented-", i)))
				invented <- err
			}()
		}
		synctest.Wait()
		start := time.Now()
		verify(t, v, goodToken())
		if _, err := v.Verify(t.Context(), withHeader(goodHeader.without("kid"))); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a token of a known key waits %v", waited)
		}

		errGone := errors.New("client gone")
		leave(errGone)
		if err := <-left; !errors.Is(err, errGone) {
			t.Errorf("the first to wait leaves with %v, want %v", err, errGone)
		}
		synctest.Wait()
		if len(known) > 0 || len(invented) > 0 {
			t.Error("the others leave with it")
		}
		close(release)
		for range waiting {
			if err := <-known; err != nil {
				t.Errorf("the key that was waited for: %v", err)
			}
			if err := <-invented; !hasRule(err, RuleKeyID) {
				t.Errorf("a key that is not there either: %v", err)
			}
		}
		if n := p.calls.Load(); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
}

func TestInventedKeyIDsMakeOneCallAMinute(t *testing.T) {
	now := monday
	p := newPublisher(firstJWK())
	s := p.set()
	s.Now = func() time.Time { return now }
	v := newSetVerifier(t, s)
	fetch(t, s)
	_, signed, _ := strings.Cut(goodToken(), ".")
	for second := range 600 {
		now = monday.Add(time.Duration(second) * time.Second)
		for i := range 5 {
			header := goodHeader.with("kid", quote(fmt.Sprint("invented-", second, "-", i)))
			if _, err := v.Verify(t.Context(), encode([]byte(header.String()))+"."+signed); !hasRule(err, RuleKeyID) {
				t.Fatal(err)
			}
		}
	}
	if n := p.calls.Load() - 1; n != 10 {
		t.Errorf("%d calls in ten minutes, want 10", n)
	}
	// Who publishes a key before signing with it is not held up by a flood.
	p.publish(firstJWK(), secondJWK())
	fetch(t, s)
	verify(t, v, secondToken("second"))
}

// As long as the URL is away nobody can tell whether the key exists.
func TestUnknownKeyIDWhileTheURLIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		fetch(t, s)
		refused := func(what string) {
			t.Helper()
			_, err := v.Verify(t.Context(), secondToken("second"))
			if _, isRefusal := errors.AsType[*TokenError](err); isRefusal || err == nil {
				t.Errorf("%s: %v, want that it cannot be told", what, err)
			}
			verify(t, v, goodToken())
		}

		p.fails()
		refused("the call fails")
		p.publish(firstJWK(), secondJWK())
		time.Sleep(refetchInterval - time.Nanosecond)
		refused("the call has failed within the minute")
		if n := p.calls.Load(); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
		time.Sleep(time.Nanosecond)
		verify(t, v, secondToken("second"))

		time.Sleep(refetchInterval)
		p.hang()
		start := time.Now()
		if _, err := v.Verify(t.Context(), secondToken("third")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the URL does not answer: %v", err)
		}
		if waited := time.Since(start); waited != fetchTimeout {
			t.Errorf("waited %v, want %v", waited, fetchTimeout)
		}

		p.fails()
		time.Sleep(refetchInterval)
		s.replace(nil) // as if there had never been a set
		s.set.Store(nil)
		_, err := v.Verify(t.Context(), goodToken())
		if _, isRefusal := errors.AsType[*TokenError](err); isRefusal || err == nil {
			t.Errorf("no set and no URL: %v, want that it cannot be told", err)
		}
	})
}

// Of two calls at a time the later one fails first: the set that the earlier one
// brings is in force, and there to tell which keys are unknown.
func TestACleanSetCountsThoughALaterCallHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		fetch(t, s)

		p.publish(firstJWK(), secondJWK())
		release := p.hang()
		slow := make(chan error)
		go func() { slow <- s.Fetch(t.Context()) }()
		synctest.Wait()
		p.fails()
		if err := s.Fetch(t.Context()); err == nil {
			t.Fatal("the later call has not failed")
		}
		close(release)
		if err := <-slow; err != nil {
			t.Fatal(err)
		}
		calls := p.calls.Load()
		verify(t, v, secondToken("second"))
		if n := p.calls.Load() - calls; n != 0 {
			t.Errorf("%d calls for a key that has been fetched", n)
		}
	})
}

// A call for unknown key IDs that has failed says nothing any more as soon as
// there is a clean set of a later one.
func TestALaterCallMakesUpForAFailedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		fetch(t, s)
		p.fails()
		if _, err := v.Verify(t.Context(), secondToken("second")); err == nil || hasRule(err, RuleKeyID) {
			t.Fatalf("while the URL is away: %v, want that it cannot be told", err)
		}
		p.publish(firstJWK())
		fetch(t, s)
		if _, err := v.Verify(t.Context(), secondToken("second")); !hasRule(err, RuleKeyID) {
			t.Errorf("with a clean set since: %v, want the key unknown", err)
		}
	})
}

// A call that Run makes at the same time may have been answered before the key
// was published: it does not stand for the one that an unknown key ID causes.
func TestUnknownKeyIDDuringAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(firstJWK())
		s := p.set()
		v := newSetVerifier(t, s)
		fetch(t, s)
		before := verify(t, v, goodToken())

		release := p.hang()
		slow := make(chan error)
		go func() { slow <- s.Fetch(t.Context()) }()
		synctest.Wait()
		p.publish(secondJWK())
		verify(t, v, secondToken("second"))
		close(release)
		if err := <-slow; err != nil {
			t.Error(err)
		}
		verify(t, v, secondToken("second"))
		if !before.retired() || find(s.signers(), "first") != nil {
			t.Error("an answer that came late has replaced a newer one")
		}
	})
}
