package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// SignIn keeps a new login at place in the stead of any other there, and binds
// the addresses to it. It returns what a person should know although it worked.
func (s *Session) SignIn(ctx context.Context, place config.Login, login *store.Login, addresses []config.Address) (notes []string, err error) {
	return s.signIn(ctx, place, login, addresses, func(*config.Config, *store.Login) bool { return true })
}

// errOvertaken says that another process has changed what a login was made for.
var errOvertaken = errors.New("another docker-credential-dtz has changed the login meanwhile")

// signIn is SignIn if still, which is asked about the bindings and the login
// before in their turn, says that the login is still wanted. Else it ends in
// errOvertaken, and nothing has been changed.
func (s *Session) signIn(ctx context.Context, place config.Login, login *store.Login, addresses []config.Address, still func(*config.Config, *store.Login) bool) (notes []string, err error) {
	l, err := s.open(place)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, l.slot)
	if err != nil {
		return nil, err
	}
	defer endTurn(unlock, &err)

	// The secret first, so that a binding never names a login that is not there;
	// with the file's turn had before, nothing is left to wait for after it.
	var before replaced
	var conf *config.Config
	saved := false
	err = config.Update(ctx, s.ConfigPath, func(c *config.Config) error {
		r, err := s.replaced(ctx, c, place, addresses)
		if err != nil {
			return err
		}
		if !still(c, r.login) {
			return errOvertaken
		}
		before, conf = r, c
		if _, again := c.Place(place.Identity, place.Profile); !again {
			notes = append(notes, notAgreed(c, place, addresses)...)
		}
		c.SetPlace(place)
		for _, address := range addresses {
			b := c.Bindings[address]
			if b.Identity != place.Identity || b.Profile != place.Profile {
				b = config.Binding{Identity: place.Identity, Profile: place.Profile}
			}
			b.Choose()
			c.Bindings[address] = b
		}
		// A write that is broken off may happen all the same, unnoticed.
		whole, done := outlast(ctx)
		defer done()
		if err := l.store.Save(whole, l.key, login); err != nil {
			return fromStoreOf(place, addresses, err)
		}
		saved = true
		return nil
	})
	if err != nil && saved {
		if failed := l.takeBack(ctx, before); failed != nil {
			err = fmt.Errorf("%w; the new login is still in %s: %v", err, strings.Join(l.store.Where(l.key), " and "), failed)
		}
	}
	if err != nil {
		return nil, err
	}
	l.slot.ClearFailure()
	for _, address := range conf.Served(place.Identity, place.Profile) {
		l.failures(conf.Bindings[address].Context).ClearFailure()
	}

	if at := before.elsewhere; at != nil { // the login has moved from one store to the other
		err := before.unread // what cannot be read may hold a kept key, which nobody else knows
		if err == nil {
			err = at.store.Delete(ctx, l.key)
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("the old login is still in %s: %v", strings.Join(at.store.Where(l.key), " and "), err))
		}
	}
	if old := before.login; old != nil && old.Method == store.KeptKey && old.Key != login.Key {
		if err := l.revoke(ctx, old); err != nil {
			notes = append(notes, fmt.Sprintf("the API key %q of the login before could not be deleted: %v", old.Alias, err))
		}
	}
	return notes, nil
}

// notAgreed unbinds the registries that a login before had served, and that
// nobody has said are to be given tokens of this one.
func notAgreed(c *config.Config, place config.Login, addresses []config.Address) (notes []string) {
	for _, address := range c.Served(place.Identity, place.Profile) {
		b := c.Bindings[address]
		if address.IsPlatform() || slices.Contains(addresses, address) || b.ByConfigure || b.APIKeyFile != "" {
			continue
		}
		delete(c.Bindings, address)
		notes = append(notes, fmt.Sprintf("%s was served by a login before and is not by this one; to have it served, %s",
			address, Run(LoginCommand{Addresses: []config.Address{address}, Profile: place.Profile}.String())))
	}
	return notes
}

// replaced is the login that a new one takes the place of.
type replaced struct {
	login     *store.Login // nil if there is none, or none that can be read
	elsewhere *loginAt     // where it lies, if not in the store of the new one
	unread    error        // why it cannot be read now, where it lies elsewhere
}

// replaced finds what a new login at place takes the place of. One in the same
// store that is out of reach is an error: it may hold a kept key.
func (s *Session) replaced(ctx context.Context, c *config.Config, place config.Login, addresses []config.Address) (replaced, error) {
	before, found := c.Place(place.Identity, place.Profile)
	if !found {
		return replaced{}, nil
	}
	at, err := s.open(before)
	if err != nil {
		return replaced{}, err
	}
	var r replaced
	r.login, err = at.store.Load(ctx, at.key)
	if noLogin(err) {
		err = nil
	}
	if before.Store == place.Store {
		if err != nil {
			err = fromStoreOf(place, addresses, err)
		}
		return r, err
	}
	r.elsewhere, r.unread = at, err
	return r, nil
}

// takeBack undoes a save whose bindings could not be written.
func (l *loginAt) takeBack(ctx context.Context, before replaced) error {
	// What ended ctx may be why.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if before.login != nil && before.elsewhere == nil { // it goes on serving what it served
		return l.store.Save(ctx, l.key, before.login)
	}
	return l.store.Delete(ctx, l.key)
}

// outlast is a context for what must be brought to its end once it has begun:
// an interruption does not end it, but ctx's deadline does, and ten seconds.
func outlast(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), min(remaining(ctx), 10*time.Second))
}

// lock waits for a login's slot.
func lock(ctx context.Context, slot store.Slot) (unlock func(), err error) {
	unlock, err = slot.Lock(ctx, nil)
	if e := waited(err); e != nil {
		return nil, e
	}
	if err != nil {
		e := &Error{Outcome: Unreachable, What: err.Error(), Remedy: "try again", Err: err}
		if !errors.Is(err, store.ErrBusy) {
			e.Remedy = "see to it that this file and its folder are yours, or let XDG_STATE_HOME name another folder"
		}
		return nil, e
	}
	return unlock, nil
}

// waited is the error of who has waited for a slot in vain, nil if err is none of
// that kind.
func waited(err error) *Error {
	if stuck, ok := errors.AsType[*store.StuckError](err); ok {
		remedy := "end it, or have it go on, and try again"
		return &Error{Outcome: Unreachable, What: strings.Replace(stuck.Error(), "with it", "with this login", 1), Remedy: remedy, Err: err}
	}
	if errors.Is(err, store.ErrBusy) {
		return &Error{Outcome: Unreachable, What: err.Error(), Remedy: "try again", Err: err}
	}
	return nil
}

// endTurn ends a turn at a login, but not after a write whose end nobody has
// seen: the keychain may still be at it, and could bring back what the next one
// has replaced. That turn ends with the process, soon.
func endTurn(unlock func(), err *error) {
	if away, ok := errors.AsType[*store.UnavailableError](*err); !ok || away.Reason != store.Silent {
		unlock()
	}
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
	Err   error // why it could not be deleted; nil: whether it was made is not known
}

func (e *UnrevokedError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("the identity service may have made the API key %q all the same", e.Alias)
	}
	return fmt.Sprintf("the API key %q could not be deleted at the identity service: %v", e.Alias, e.Err)
}

func (e *UnrevokedError) Unwrap() error { return e.Err }

// SignOut forgets the login at place, the addresses that it alone serves, and,
// tried once, its kept key at the identity service: failing that is an
// *UnrevokedError, with everything here forgotten all the same. It returns the
// login that was there, nil if there was none to read.
func (s *Session) SignOut(ctx context.Context, place config.Login) (*store.Login, error) {
	return s.forget(ctx, store.Key{Identity: place.Identity, Profile: place.Profile}, func(*config.Config) bool { return true })
}

// forget ends the login if ends says so, which may change the bindings. Where
// the login lies, and what it serves, is looked at in its turn: while that is
// waited for, the login may move.
func (s *Session) forget(ctx context.Context, key store.Key, ends func(*config.Config) bool) (login *store.Login, err error) {
	slot := store.LoginSlot(s.StateDir, key)
	unlock, err := lock(ctx, slot)
	if err != nil {
		return nil, err
	}
	defer endTurn(unlock, &err)

	var l *loginAt
	err = config.Update(ctx, s.ConfigPath, func(c *config.Config) error {
		place, found := c.Place(key.Identity, key.Profile)
		if !ends(c) || !found {
			return nil
		}
		at, err := s.open(place)
		if err != nil {
			return err
		}
		old, err := at.store.Load(ctx, key)
		if err != nil && !noLogin(err) {
			return fromStoreAgain(err)
		}
		ctx, cancel := outlast(ctx)
		defer cancel()
		if err := at.store.Delete(ctx, key); err != nil {
			return fromStoreAgain(err)
		}
		l, login = at, old
		slot.ClearFailure()
		c.Forget(key.Identity, key.Profile)
		return nil
	})
	if login == nil || login.Method != store.KeptKey {
		return login, err
	}
	// Whatever came before: here nobody knows the key any more.
	if failed := l.revoke(ctx, login); failed != nil {
		unrevoked := &UnrevokedError{login.Alias, failed}
		if err != nil {
			return login, fmt.Errorf("%w; %w", err, unrevoked)
		}
		return login, unrevoked
	}
	return login, err
}

// revoke deletes a kept key at the identity service. A key that is gone already
// is what was wanted. It takes a new token: of an older one a refusal would not
// say whether the key is gone or the token was revoked.
func (l *loginAt) revoke(ctx context.Context, login *store.Login) error {
	ctx, cancel := outlast(ctx)
	defer cancel()
	ctx, cancel = leaveTime(ctx)
	defer cancel()
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
