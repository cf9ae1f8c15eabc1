package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// SignIn keeps a new login at place in the stead of any other there, and binds
// the addresses to it. It returns what a person should know although it worked.
func (s *Session) SignIn(ctx context.Context, place config.Login, login *store.Login, addresses []config.Address) (notes []string, err error) {
	l, err := s.open(place)
	if err != nil {
		return nil, err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, err
	}
	old, stale := s.previous(ctx, conf, place)
	if err := l.store.Save(ctx, l.key, login); err != nil {
		return nil, fromStore(err)
	}
	err = config.Update(ctx, s.ConfigPath, func(c *config.Config) error {
		c.SetPlace(place)
		for _, address := range addresses {
			b := c.Bindings[address]
			if b.Identity != place.Identity || b.Profile != place.Profile {
				b = config.Binding{Identity: place.Identity, Profile: place.Profile}
			}
			c.Bindings[address] = b
		}
		return nil
	})
	switch {
	case err != nil && old != nil && stale == nil: // it goes on serving what it served
		return nil, errors.Join(err, l.store.Save(ctx, l.key, old))
	case err != nil:
		return nil, errors.Join(err, l.store.Delete(ctx, l.key))
	}
	l.slot.ClearFailure()
	for _, address := range conf.Served(place.Identity, place.Profile) {
		l.failures(conf.Bindings[address].Context).ClearFailure()
	}

	if stale != nil { // the login has moved from one store to the other
		if err := stale.store.Delete(ctx, l.key); err != nil {
			notes = append(notes, fmt.Sprintf("the old login is still in %s: %v", strings.Join(stale.store.Where(l.key), " and "), err))
		}
	}
	if old != nil && old.Method == store.KeptKey && old.Key != login.Key {
		if err := l.revoke(ctx, old); err != nil {
			notes = append(notes, fmt.Sprintf("the API key %q of the login before could not be deleted: %v", old.Alias, err))
		}
	}
	return notes, nil
}

// previous is the login that a new one at place replaces, if it can be read,
// and where it lies if that is elsewhere.
func (s *Session) previous(ctx context.Context, conf *config.Config, place config.Login) (old *store.Login, elsewhere *loginAt) {
	before, found := conf.Place(place.Identity, place.Profile)
	if !found {
		return nil, nil
	}
	at, err := s.open(before)
	if err != nil {
		return nil, nil
	}
	old, err = at.store.Load(ctx, at.key)
	if err != nil {
		old = nil
	}
	if before.Store != place.Store {
		return old, at
	}
	return old, nil
}

// lock waits for the login's slot.
func (l *loginAt) lock(ctx context.Context) (unlock func(), err error) {
	unlock, err = l.slot.Lock(ctx, nil)
	if err != nil {
		return nil, &Error{Outcome: Unreachable, What: err.Error(), Remedy: "try again", Err: err}
	}
	return unlock, nil
}

// FromToken is a login that lasts while one of its tokens is exchanged in time.
func FromToken(method store.Method, user string, got oauth.Token) *store.Login {
	login := &store.Login{
		Method: method, User: user,
		Subject: got.Claims.Subject, Context: got.Claims.Context,
	}
	login.SetToken(fromAnswer(got))
	return login
}

// FromKey is a login that lasts as long as its API key, which got proves.
func FromKey(method store.Method, user string, key secret.String, alias string, got oauth.Token) *store.Login {
	login := FromToken(method, user, got)
	login.Key, login.Alias = key, alias
	return login
}

// UnrevokedError says that an API key which login --keep had made is still
// valid at the identity service.
type UnrevokedError struct {
	Alias string
	Err   error
}

func (e *UnrevokedError) Error() string {
	return fmt.Sprintf("the API key %q could not be deleted at the identity service: %v", e.Alias, e.Err)
}

func (e *UnrevokedError) Unwrap() error { return e.Err }

// SignOut forgets the login at place, its addresses, and, tried once, its kept
// key at the identity service: failing that is an *UnrevokedError, with
// everything here forgotten all the same.
func (s *Session) SignOut(ctx context.Context, place config.Login) error {
	l, err := s.open(place)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.forget(ctx)
}

// forget is called with the slot held.
func (l *loginAt) forget(ctx context.Context) error {
	login, err := l.store.Load(ctx, l.key)
	switch {
	case noLogin(err):
		login = &store.Login{}
	case err != nil:
		return fromStore(err)
	}
	// The secret here goes first: the service may take all the time there is.
	if err := l.store.Delete(ctx, l.key); err != nil {
		return fromStore(err)
	}
	l.slot.ClearFailure()
	err = config.Update(ctx, l.s.ConfigPath, func(c *config.Config) error {
		c.Forget(l.key.Identity, l.key.Profile)
		return nil
	})
	if login.Method != store.KeptKey {
		return err
	}
	// Whatever came before: here nobody knows the key any more.
	if failed := l.revoke(ctx, login); failed != nil {
		return errors.Join(err, &UnrevokedError{login.Alias, failed})
	}
	return err
}

// revoke deletes a kept key at the identity service. A key that is gone already
// is what was wanted. It takes a new token: of an older one a refusal would not
// say whether the key is gone or the token was revoked.
func (l *loginAt) revoke(ctx context.Context, login *store.Login) error {
	got, err := l.identity.APIKey(ctx, login.Key, "")
	if answered(err, http.StatusUnauthorized) {
		return nil
	}
	if err != nil {
		return err
	}
	err = l.identity.DeleteKey(ctx, got.Access, login.Key)
	if answered(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func answered(err error, status int) bool {
	var answer *oauth.Error
	return errors.As(err, &answer) && answer.Status == status
}
