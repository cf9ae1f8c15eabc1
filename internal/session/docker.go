package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// Keep is what docker login asks for. newStore is where a new login goes.
//
// Docker also calls it with what Credential has just handed out, even when the
// registry refused that; a token never takes the place of a login that can
// still be renewed. Any other token, or an API key, becomes the login of the
// address once the identity service has accepted it. The notes are for a person.
func (s *Session) Keep(ctx context.Context, address config.Address, username string, given secret.String, newStore string) (notes []string, err error) {
	for range 3 {
		if notes, err = s.keepOnce(ctx, address, username, given, newStore); !errors.Is(err, errOvertaken) {
			break
		}
	}
	if err != nil {
		return nil, s.explain(err, address, nil)
	}
	return notes, nil
}

func (s *Session) keepOnce(ctx context.Context, address config.Address, username string, given secret.String, newStore string) (notes []string, err error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, err
	}
	k := &keeping{s: s, conf: conf, address: address, newStore: newStore}
	switch username {
	case UserBearer:
		err = k.token(ctx, given)
	case UserAPIKey:
		err = k.apiKey(ctx, given)
	default:
		err = &Error{
			Outcome: Misconfigured,
			What:    "the registry takes no password of a person, only the users bearer and apikey",
			Remedy:  Run(loginCommand(address, "")),
		}
	}
	return k.notes, err
}

type keeping struct {
	s        *Session
	conf     *config.Config
	address  config.Address
	newStore string
	notes    []string
}

func (k *keeping) token(ctx context.Context, given secret.String) error {
	claims, err := oauth.ParseClaims(given.Reveal())
	if err != nil {
		return &Error{Outcome: Refused, What: "the password cannot be used: " + err.Error(), Remedy: Run(loginCommand(k.address, "")), Err: err}
	}
	if k.echoes(ctx, claims) {
		return nil
	}
	var place config.Login
	var ended *store.Login // of the same person: the new token revives it
	if b, bound := k.conf.Lookup(k.address); bound {
		at, login, err := k.login(ctx, b)
		if err != nil {
			return err
		}
		if login != nil && platform.SameID(login.Subject, claims.Subject) && platform.SameContext(first(b.Context, login.Context), claims.Context) {
			if login.Key != "" || isValid(login.Newest(), k.s.Now()) {
				return nil
			}
			place, ended = at, login
		}
	}
	if ended == nil {
		if place, err = k.place(); err != nil {
			return err
		}
	}
	client, err := k.s.Identity(place.Identity)
	if err != nil {
		return err
	}
	if claims.Issuer != platform.Issuer {
		// It may be another registry's: it must not reach our identity service.
		return &Error{Outcome: Refused, What: fmt.Sprintf("the password is a token of the issuer %q and not of %s", oauth.Clean(claims.Issuer), platform.Issuer), Remedy: Run(loginCommand(k.address, ""))}
	}
	got, err := client.Refresh(ctx, given, claims.Context)
	if err := refusedAtDocker(err, "the token was refused"); err != nil {
		return err
	}
	login := FromToken(store.Adopted, "", got)
	if ended != nil {
		// The token's context may be this address's alone.
		login.User, login.Context = ended.User, ended.Context
	}
	return k.keep(ctx, place, login, func(now *config.Config, before *store.Login) bool {
		if ended != nil && (before == nil || before.Newest().Access != ended.Newest().Access) {
			return false // whoever has logged in since is not to be replaced
		}
		return sameLogin(k.conf, now, k.address)
	})
}

// echoes reports whether the token is of the subject and scope that the
// environment yields: what get handed out a moment ago.
func (k *keeping) echoes(ctx context.Context, claims oauth.Claims) bool {
	b, bound := k.conf.Lookup(k.address)
	cred, _, err := k.s.fromEnvironment(ctx, Request{Address: k.address, TokenOnly: true}, b, bound)
	if err != nil || cred == nil {
		return false
	}
	own, err := oauth.ParseClaims(cred.Secret.Reveal())
	return err == nil && platform.SameID(own.Subject, claims.Subject) && platform.SameContext(own.Context, claims.Context)
}

func (k *keeping) apiKey(ctx context.Context, given secret.String) error {
	key, _, err := checkedKey(given.Reveal(), "", "the password")
	if err != nil {
		return err
	}
	b, bound := k.conf.Lookup(k.address)
	if own, _, err := k.s.environmentOf(k.address, b, bound).key(b); err == nil && own == key {
		return nil // the environment's own key, handed out as the fall-back
	}
	place, err := k.place()
	if err != nil {
		return err
	}
	client, err := k.s.Identity(place.Identity)
	if err != nil {
		return err
	}
	contextID := ""
	if bound {
		contextID = b.Context
	}
	got, err := client.APIKey(ctx, key, contextID)
	if err := refusedAtDocker(err, "the API key was refused"); err != nil {
		return err
	}
	return k.keep(ctx, place, FromKey(store.APIKey, "", key, "", got), func(*config.Config, *store.Login) bool { return true })
}

func refusedAtDocker(err error, refused string) error {
	if err == nil {
		return nil
	}
	_, err = fromIdentity(oauth.Token{}, err, refused)
	var e *Error
	if errors.As(err, &e) {
		e.Remedy = "nothing was stored"
		if e.Outcome != Refused {
			e.Remedy += "; try again"
		}
	}
	return err
}

// place is where a login that docker login brings belongs: in a profile named
// after the address, at the address's identity service. DTZ_IDENTITY_URL says
// which that is for an address that is not bound, and in place of the platform
// for one that has no login: so it is out of the box.
func (k *keeping) place() (config.Login, error) {
	place := config.Login{Profile: string(k.address), Store: k.newStore}
	b, bound := k.conf.Lookup(k.address)
	_, loggedIn := k.conf.Place(b.Identity, b.Profile)
	place.Identity = b.Identity
	if !bound || !loggedIn && b.Identity == platform.IdentityURL {
		url, err := k.s.Env.IdentityURL()
		if err != nil {
			return place, err
		}
		place.Identity = url
	}
	if at, found := k.conf.Place(place.Identity, place.Profile); found {
		place.Store = at.Store
	}
	return place, nil
}

// login is the login that b names, nil if there is none. One that is out of
// reach is an error: it may be its own token that Docker has brought back.
func (k *keeping) login(ctx context.Context, b config.Binding) (config.Login, *store.Login, error) {
	place, found := k.conf.Place(b.Identity, b.Profile)
	if !found {
		return place, nil, nil
	}
	at, err := k.s.open(place)
	if err != nil {
		return place, nil, err
	}
	login, err := at.store.Load(ctx, at.key)
	if err != nil && !noLogin(err) {
		return place, nil, fromStoreOf(place, []config.Address{k.address}, err)
	}
	return place, login, nil
}

func (k *keeping) keep(ctx context.Context, place config.Login, login *store.Login, still func(*config.Config, *store.Login) bool) error {
	if place.Store == "" {
		return &Error{
			Outcome: Misconfigured, What: "DTZ_STORE=file keeps logins unencrypted, which only a person may choose",
			Remedy: Run(LoginCommand{Addresses: []config.Address{k.address}, Insecure: true}.String()),
		}
	}
	notes, err := k.s.signIn(ctx, place, login, []config.Address{k.address}, still)
	if place.Store == store.FileName {
		notes = append(notes, Unencrypted)
	}
	k.notes = notes
	if err != nil {
		return err
	}
	if own := k.s.OwnContexts(place)[k.address]; own != "" && !platform.SameContext(own, login.Newest().Context) {
		return k.s.UseDefault(ctx, []config.Address{k.address}) // it was given a token for another
	}
	return nil
}

// Unencrypted is said at each login that goes to a file.
const Unencrypted = "warning: the login is kept unencrypted; whoever can read your files can use it"

// Erase is what docker logout asks for: the address is served no more, and with
// its last address the login goes. An address that has no binding is no error.
// The note, if any, is for a person.
func (s *Session) Erase(ctx context.Context, address config.Address) (note string, err error) {
	if _, err := os.Stat(s.ConfigPath); errors.Is(err, fs.ErrNotExist) {
		return "", nil // nothing has ever been kept
	}
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return "", s.explain(err, address, nil)
	}
	b, found := conf.Bindings[address]
	if !found {
		if _, served := conf.Lookup(address); served {
			note = fmt.Sprintf("%s: served by the login of %s, which stays; run \"docker logout %s\" to end it", address, platformRegistry, platformRegistry)
		}
		return note, nil
	}
	// The last address goes together with its login, or not at all: while the
	// keychain is out of reach, a second try must still find what to do.
	_, err = s.forget(ctx, store.Key{Identity: b.Identity, Profile: b.Profile}, func(c *config.Config) bool {
		now := c.Bindings[address]
		if now.Identity != b.Identity || now.Profile != b.Profile {
			return false // another login serves it since a moment ago
		}
		delete(c.Bindings, address)
		return !slices.ContainsFunc(c.Served(b.Identity, b.Profile), func(a config.Address) bool {
			rest := c.Bindings[a]
			// Else it has no use for the login, or nobody has asked for it.
			return rest.APIKeyFile == "" && rest.NamedBy == ""
		})
	})
	var unrevoked *UnrevokedError
	if errors.As(err, &unrevoked) {
		return fmt.Sprintf("%s: %v", address, err), nil
	}
	if err != nil {
		return "", s.explain(err, address, nil)
	}
	return "", nil
}

// List returns the bound addresses that have a login, each with the user name
// that Docker is given.
func (s *Session) List(ctx context.Context) (map[string]string, error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, s.explain(err, "", nil)
	}
	list := map[string]string{}
	for _, place := range conf.Logins {
		served := conf.Served(place.Identity, place.Profile)
		if len(served) == 0 {
			continue
		}
		at, err := s.open(place)
		if err != nil {
			return nil, err
		}
		if _, err := at.store.Load(ctx, at.key); noLogin(err) {
			continue
		} else if err != nil {
			return nil, fromStoreAgain(err)
		}
		for _, address := range served {
			list[string(address)] = UserBearer
		}
	}
	return list, nil
}
