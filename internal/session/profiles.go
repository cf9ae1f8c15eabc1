package session

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// NewPlace is where a login of profile belongs that is to serve the addresses:
// at the identity service that DTZ_IDENTITY_URL names, else at the one that the
// addresses are bound to, else at the platform's.
func (s *Session) NewPlace(profile, storeName string, addresses []config.Address) (config.Login, error) {
	place := config.Login{Profile: profile, Store: storeName}
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return place, err
	}
	if !s.Env.NamesIdentity() {
		for _, address := range addresses {
			b, bound := conf.Lookup(address)
			if bound && place.Identity != "" && b.Identity != place.Identity {
				return place, fmt.Errorf("the registries are bound to two identity services, %s and %s; log in to each by itself", place.Identity, b.Identity)
			}
			if bound {
				place.Identity = b.Identity
			}
		}
	}
	if place.Identity == "" {
		place.Identity, err = s.Env.IdentityURL()
	}
	return place, err
}

// Pick is the login of a profile. Where the profile has logins at several
// identity services, DTZ_IDENTITY_URL, or else the platform, decides. Its
// failure is an *Error of outcome NotLoggedIn or Misconfigured.
func (s *Session) Pick(profile string) (config.Login, error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return config.Login{}, s.explain(err, "", nil)
	}
	var found []config.Login
	for _, place := range conf.Logins {
		if place.Profile == profile {
			found = append(found, place)
		}
	}
	if len(found) > 1 || s.Env.NamesIdentity() {
		url, err := s.Env.IdentityURL()
		if err != nil {
			return config.Login{}, s.explain(err, "", nil)
		}
		several := found
		found = slices.DeleteFunc(slices.Clone(found), func(p config.Login) bool { return p.Identity != url })
		if len(found) == 0 && len(several) > 0 {
			var urls []string
			for _, p := range several {
				urls = append(urls, p.Identity)
			}
			return config.Login{}, &Error{
				Outcome: Misconfigured,
				What:    fmt.Sprintf("profile %s is logged in at %s, not at %s", profile, strings.Join(urls, " and "), url),
				Remedy:  "set DTZ_IDENTITY_URL to one of them",
			}
		}
	}
	if len(found) == 0 {
		return config.Login{}, &Error{Outcome: NotLoggedIn, What: "not logged in" + s.Env.emptyNote(), Remedy: s.loginRemedy("", profile)}
	}
	return found[0], nil
}

// Places are all logins that there are.
func (s *Session) Places() ([]config.Login, error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, s.explain(err, "", nil)
	}
	return conf.Logins, nil
}

// HasStore reports whether any login lies in the store: whether a person has
// chosen it before.
func (s *Session) HasStore(name string) bool {
	places, err := s.Places()
	return err == nil && slices.ContainsFunc(places, func(p config.Login) bool { return p.Store == name })
}

// Serves reports whether the address is bound to the login at place already,
// and that by who is logged in: after a logout it is asked for anew.
func (s *Session) Serves(place config.Login, address config.Address) bool {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return false
	}
	b, bound := conf.Lookup(address)
	_, loggedIn := conf.Place(place.Identity, place.Profile)
	return bound && b.Identity == place.Identity && b.Profile == place.Profile && (loggedIn || b.ByConfigure)
}

// Taken says which of the addresses another login serves until the one at place
// does, one line for each, and how that one is forgotten where it then serves
// none. Nothing has been taken yet.
func (s *Session) Taken(place config.Login, addresses []config.Address) (notes []string) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil
	}
	for _, address := range addresses {
		b, bound := conf.Lookup(address)
		other, loggedIn := conf.Place(b.Identity, b.Profile)
		if !bound || !loggedIn || b.Identity == place.Identity && b.Profile == place.Profile {
			continue
		}
		note := fmt.Sprintf("this would take %s from the login of profile %s", address, other.Profile)
		if other.Identity != place.Identity {
			note += " at " + other.Identity
		}
		if b.Context != "" {
			note += ", in context " + oauth.Clean(b.Context)
		}
		left := slices.DeleteFunc(conf.Served(other.Identity, other.Profile), func(a config.Address) bool { return slices.Contains(addresses, a) })
		if len(left) == 0 {
			logout := "docker-credential-dtz logout"
			if other.Profile != config.DefaultProfile {
				logout += " --profile " + other.Profile
			}
			note += ", which would then serve no registry; to forget it, " + Run(logout)
			if other.Identity != place.Identity { // logout has to be told which
				note += " with DTZ_IDENTITY_URL=" + other.Identity
			}
		}
		notes = append(notes, note)
	}
	return notes
}

// Probe finds out whether the store at place can be used for a login that is to
// serve the addresses, before a password is asked for in vain.
func (s *Session) Probe(ctx context.Context, place config.Login, addresses []config.Address) error {
	l, err := s.open(place)
	if err != nil {
		return err
	}
	_, err = l.store.Load(ctx, l.key)
	if err == nil {
		return nil
	}
	if e, ok := fromStoreOf(place, addresses, err).(*Error); ok && e.Outcome == StoreAway {
		return e
	}
	return nil
}

// LastContext is the context of the login that there is for place's profile,
// expired or not, in whichever store; "" if none can be read.
func (s *Session) LastContext(ctx context.Context, place config.Login) string {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return ""
	}
	before, found := conf.Place(place.Identity, place.Profile)
	if !found {
		return ""
	}
	l, err := s.open(before)
	if err != nil {
		return ""
	}
	login, err := l.store.Load(ctx, l.key)
	if err != nil {
		return ""
	}
	return login.Context
}

// Client is the identity service of a login.
func (s *Session) Client(place config.Login) (*oauth.Client, error) {
	return s.Identity(place.Identity)
}

// Status is what is known of one login.
type Status struct {
	Place     config.Login
	Where     []string         // every place where a secret of it lies
	Addresses []config.Address // that it serves
	// OwnContexts are the contexts of those that have one of their own; the
	// others are in the login's default one.
	OwnContexts map[config.Address]string
	Login       *store.Login // nil if it cannot be read
	Expires     time.Time    // when its newest token ends, by this machine's clock; zero if it has none
	Err         *Error       // why it is of no use now; nil if it is
	Notes       []string
}

// Status looks at the login at place as a get does: what can be renewed is.
func (s *Session) Status(ctx context.Context, place config.Login) Status {
	st := Status{Place: place, Addresses: s.Served(place), OwnContexts: s.OwnContexts(place)}
	l, err := s.open(place)
	if err != nil {
		st.Err = s.explain(err, "", nil)
		return st
	}
	cred, err := s.Login(ctx, place, "")
	if err != nil {
		st.Err = s.withRemedy(ctx, err, place, "")
	} else {
		st.Notes = cred.Notes
	}
	st.Where = l.store.Where(l.key)
	if login, err := l.store.Load(ctx, l.key); err == nil {
		st.Login = login
		if newest := login.Newest(); newest.Access != "" {
			st.Expires = ends(newest, s.Now())
		}
	}
	return st
}

// Where are the places where the secrets of the login at place lie, for people.
func (s *Session) Where(place config.Login) []string {
	l, err := s.open(place)
	if err != nil {
		return nil
	}
	return l.store.Where(l.key)
}

// Bound are the bound addresses and the platform's own, sorted.
func (s *Session) Bound() ([]config.Address, error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, s.explain(err, "", nil)
	}
	addresses := slices.AppendSeq([]config.Address{platformRegistry}, maps.Keys(conf.Bindings))
	slices.Sort(addresses)
	return slices.Compact(addresses), nil
}

// Registries are the bound addresses, the platform's own and those of
// DTZ_REGISTRIES, sorted, with their bindings as far as they have one.
func (s *Session) Registries() ([]config.Address, map[config.Address]config.Binding, error) {
	addresses, err := s.Bound()
	if err != nil {
		return nil, nil, err
	}
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, nil, s.explain(err, "", nil)
	}
	if s.Env.Precedence() != "" {
		addresses = append(addresses, s.Env.registries...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	bindings := map[config.Address]config.Binding{}
	for _, address := range addresses {
		if b, bound := conf.Lookup(address); bound {
			bindings[address] = b
		}
	}
	return addresses, bindings, nil
}

// IsBound reports whether the address has a binding.
func (s *Session) IsBound(address config.Address) bool {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return false
	}
	_, bound := conf.Lookup(address)
	return bound
}
