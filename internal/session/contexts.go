package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// Contexts returns the ids of the contexts that the identity of the login at
// place may use, as the identity service lists them now. A failure is an
// *Error.
func (s *Session) Contexts(ctx context.Context, place config.Login) ([]string, error) {
	l, err := s.open(place)
	if err != nil {
		return nil, err
	}
	ask := func(token secret.String) ([]string, error) {
		ids, err := l.identity.Contexts(ctx, token)
		if err != nil {
			return nil, identityError(err, "the token of this login was refused")
		}
		return ids, nil
	}
	cred, err := s.Login(ctx, place, "")
	var ids []string
	if err == nil {
		ids, err = ask(cred.Secret)
	}
	if e := (*Error)(nil); errors.As(err, &e) && e.Outcome == Refused {
		// The default context may be the one that the identity has lost, and
		// whoever asks may be about to choose another.
		for _, token := range l.otherTokens(ctx) {
			if ids, err := ask(token); err == nil {
				return ids, nil
			}
		}
	}
	if err != nil {
		return nil, s.withRemedy(ctx, err, place, "")
	}
	return ids, nil
}

// otherTokens are the valid tokens of the login that are not of its default
// context, the newest first, and one of the context that its API key has by
// itself.
func (l *loginAt) otherTokens(ctx context.Context) []secret.String {
	login, err := l.store.Load(ctx, l.key)
	if err != nil {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(login.Tokens), func(t store.Token) bool {
		return !isValid(t, l.s.Now()) || platform.SameContext(t.Context, login.Context)
	})
	slices.SortFunc(kept, func(a, b store.Token) int { return b.Received.Compare(a.Received) })
	var tokens []secret.String
	for _, t := range kept {
		tokens = append(tokens, t.Access)
	}
	if login.Key != "" {
		if got, err := l.identity.APIKey(ctx, login.Key, ""); err == nil {
			tokens = append(tokens, got.Access)
		}
	}
	return tokens
}

// Peek is the login of place's identity service and profile as it lies there,
// nil if there is none or it cannot be read.
func (s *Session) Peek(ctx context.Context, place config.Login) *store.Login {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil
	}
	place, found := conf.Place(place.Identity, place.Profile)
	if !found {
		return nil
	}
	l, err := s.open(place)
	if err != nil {
		return nil
	}
	login, err := l.store.Load(ctx, l.key)
	if err != nil {
		return nil
	}
	return login
}

// KnownContexts are the contexts that the login at place knows of without
// asking the identity service: its default one, those of its addresses, and
// those that its tokens are for or name.
func (s *Session) KnownContexts(ctx context.Context, place config.Login) []string {
	var known []string
	add := func(ids ...string) {
		for _, id := range ids {
			if oauth.IsContextID(id) && !slices.ContainsFunc(known, func(k string) bool { return platform.SameContext(k, id) }) {
				known = append(known, id)
			}
		}
	}
	if login := s.Peek(ctx, place); login != nil {
		add(login.Context)
		for _, t := range login.Tokens {
			add(t.Context)
			if claims, err := oauth.ParseClaims(t.Access.Reveal()); err == nil {
				add(claims.Contexts...)
			}
		}
	}
	for _, contextID := range s.OwnContexts(place) {
		add(contextID)
	}
	slices.Sort(known)
	return known
}

// Served are the addresses that are bound to the login at place, sorted.
func (s *Session) Served(place config.Login) []config.Address {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil
	}
	return conf.Served(place.Identity, place.Profile)
}

// OwnContexts are the contexts of those addresses of the login at place that
// have one of their own. The others are in the login's default one.
func (s *Session) OwnContexts(place config.Login) map[config.Address]string {
	own := map[config.Address]string{}
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return own
	}
	for _, address := range conf.Served(place.Identity, place.Profile) {
		if id := conf.Bindings[address].Context; id != "" {
			own[address] = id
		}
	}
	return own
}

// UseContext makes contextID the default context of the login at place or, where
// there are addresses, their own: they are bound to it and to the login. A token
// in it is obtained first, so that nothing changes when the identity service
// refuses it, and kept, so that the next get has it at hand. It returns the
// login as it is then. A failure is an *Error.
func (s *Session) UseContext(ctx context.Context, place config.Login, contextID string, addresses []config.Address) (*store.Login, error) {
	login, err := s.useContext(ctx, place, contextID, addresses)
	if err != nil {
		return nil, s.withRemedy(ctx, err, place, contextID)
	}
	return login, nil
}

func (s *Session) useContext(ctx context.Context, place config.Login, contextID string, addresses []config.Address) (login *store.Login, err error) {
	unlock, err := lock(ctx, store.LoginSlot(s.StateDir, store.Key{Identity: place.Identity, Profile: place.Profile}))
	if err != nil {
		return nil, err
	}
	defer endTurn(unlock, &err)
	// Where the login lies is looked at in its turn: it may have moved.
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, err
	}
	place, found := conf.Place(place.Identity, place.Profile)
	if !found {
		return nil, fromStore(store.ErrNotFound)
	}
	for _, address := range addresses {
		if identity := conf.IdentityOf(address); address.IsPlatform() && identity != place.Identity {
			return nil, &Error{
				Outcome: Misconfigured,
				What:    fmt.Sprintf("%s belongs to %s, and profile %s is logged in at %s", address, identity, place.Profile, place.Identity),
				Remedy:  Run(loginCommand(address, "")),
			}
		}
	}
	l, err := s.open(place)
	if err != nil {
		return nil, err
	}
	if login, err = l.store.Load(ctx, l.key); err != nil {
		return nil, fromStore(err)
	}
	token, err := l.exchange(ctx, login, contextID)
	if err != nil {
		return nil, err
	}

	login.SetToken(token)
	if len(addresses) == 0 {
		login.Context = token.Context
	}
	// A write that is broken off may happen all the same, unnoticed.
	whole, done := outlast(ctx)
	defer done()
	if err := l.store.Save(whole, l.key, login); err != nil {
		return nil, fromStore(err)
	}
	if len(addresses) == 0 {
		return login, nil
	}
	return login, config.Update(whole, s.ConfigPath, func(c *config.Config) error {
		for _, address := range addresses {
			b, _ := c.Lookup(address) // a port keeps what held for it without a binding of its own
			if b.Identity != place.Identity || b.Profile != place.Profile {
				b = config.Binding{Identity: place.Identity, Profile: place.Profile}
			}
			b.Context = token.Context
			b.Choose()
			c.Bindings[address] = b
		}
		return nil
	})
}

// UseDefault gives the addresses back to the default context of the login that
// serves them.
func (s *Session) UseDefault(ctx context.Context, addresses []config.Address) error {
	err := config.Update(ctx, s.ConfigPath, func(c *config.Config) error {
		for _, address := range addresses {
			b, bound := c.Lookup(address)
			if !bound {
				return notOurs(address)
			}
			if b.Context != "" {
				b.Context = ""
				b.Choose()
				c.Bindings[address] = b
			}
		}
		return nil
	})
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return e
		}
		return s.explain(err, "", nil)
	}
	return nil
}

// ServedBy is the login that serves those of the addresses that are bound;
// found is false if none is. Several logins are an *Error of outcome
// Misconfigured, and one that has to be made first one of NotLoggedIn.
func (s *Session) ServedBy(addresses []config.Address) (place config.Login, found bool, err error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return place, false, s.explain(err, "", nil)
	}
	var by config.Address
	for _, address := range addresses {
		b, bound := conf.Lookup(address)
		if !bound {
			continue
		}
		at, loggedIn := conf.Place(b.Identity, b.Profile)
		switch {
		case !loggedIn:
			return place, false, &Error{
				Outcome: NotLoggedIn, Address: address, What: "not logged in" + s.Env.emptyNote(),
				Remedy: Run(loginCommand(address, b.Profile)),
			}
		case found && at != place:
			return place, false, &Error{
				Outcome: Misconfigured, What: fmt.Sprintf("%s and %s are served by two logins", by, address),
				Remedy: "name them one by one, or one login for both with --profile",
			}
		}
		place, by, found = at, address, true
	}
	return place, found, nil
}

// withRemedy is err as an *Error about the login at place, of which a token in
// contextID was wanted, that says what mends it.
func (s *Session) withRemedy(ctx context.Context, err error, place config.Login, contextID string) *Error {
	e := s.explain(err, "", nil)
	if e.Remedy == "" {
		address := platformRegistry
		if served := s.Served(place); len(served) > 0 {
			address = served[0] // logging in for one mends the whole login
		}
		e.Remedy = s.remedy(ctx, e, place, address, contextID)
	}
	return e
}

// contextsCommand is the command that says which contexts there are.
func contextsCommand(profile string) string {
	command := "docker-credential-dtz context list"
	if profile != "" && profile != config.DefaultProfile {
		command += " --profile " + profile
	}
	return command
}
