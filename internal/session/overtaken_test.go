package session

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// whileItWaits is a get that has an old token and waits for its turn to renew it,
// during which change happens.
func (w *world) whileItWaits(change func(key store.Key)) (*Credential, error) {
	w.t.Helper()
	key := store.Key{Identity: w.url, Profile: config.DefaultProfile}
	unlock, err := store.LoginSlot(w.path("state"), key).Lock(w.ctx(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	loaded := make(chan struct{})
	once := sync.OnceFunc(func() { close(loaded) })
	p := w.process()
	open := p.Store
	p.Store = func(name string) (store.Store, error) {
		s, err := open(name)
		return signalling{s, once}, err
	}
	type answer struct {
		cred *Credential
		err  error
	}
	answers := make(chan answer)
	go func() {
		cred, err := p.Credential(w.ctx(), Request{Address: registry})
		answers <- answer{cred, err}
	}()
	<-loaded
	change(key)
	unlock()
	a := <-answers
	return a.cred, a.err
}

// signalling says when a login has been read first.
type signalling struct {
	store.Store
	loaded func()
}

func (s signalling) Load(ctx context.Context, key store.Key) (*store.Login, error) {
	defer s.loaded()
	return s.Store.Load(ctx, key)
}

func TestNoTokenAfterALogoutThatCameBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(24*time.Hour - 5*time.Minute)
	cred, err := w.whileItWaits(func(key store.Key) {
		w.must(store.File{Dir: w.path(store.FileName)}.Delete(w.ctx(), key))
		w.must(config.Update(w.ctx(), w.path("config", "config.json"), func(c *config.Config) error {
			c.Forget(key.Identity, key.Profile)
			return nil
		}))
	})
	if cred != nil || outcomeOf(err) != NotLoggedIn {
		t.Errorf("after the logout get answers %v, %v", cred, err)
	}
}

func TestLoginIsFoundThatMovesToTheOtherStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(24*time.Hour - 5*time.Minute)
	fresh := w.passwordLogin("alice")
	cred, err := w.whileItWaits(func(key store.Key) {
		w.must(store.File{Dir: w.path(store.KeychainName)}.Save(w.ctx(), key, fresh))
		w.must(config.Update(w.ctx(), w.path("config", "config.json"), func(c *config.Config) error {
			c.SetPlace(config.Login{Identity: key.Identity, Profile: key.Profile, Store: store.KeychainName})
			return nil
		}))
		w.must(store.File{Dir: w.path(store.FileName)}.Delete(w.ctx(), key))
	})
	if err != nil || cred.Secret != fresh.Newest().Access {
		t.Errorf("while its login moves, get answers %v, %v", cred, err)
	}
}

// A token that docker login brings revives the login that has ended, but not in
// the place of whoever logs in while the identity service is asked.
func TestDockerLoginReplacesNobodyWhoCameBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.advance(25 * time.Hour)
	bob := w.passwordLogin("bob")
	var once sync.Once
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
		once.Do(func() { w.signIn(w.place(""), bob, registry) })
		w.service.ServeHTTP(rw, r)
	}})
	if _, err := w.process().Keep(w.ctx(), registry, UserBearer, w.token(alice, work), store.FileName); err != nil {
		t.Fatal(err)
	}
	if login := w.stored(w.place("")); login == nil || !platform.SameID(login.Subject, bob.Subject) {
		t.Errorf("the login is %v, want bob's", login)
	}
	w.mustGet(registry, work) // it was asked for, and has a profile of its own
}
