package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// patienceForStats is how long all registries together may take to say where
// their images lie, which is a convenience.
const patienceForStats = 3 * time.Second

// found is an address that a registry names as that of one context's images.
type found struct {
	address   config.Address
	contextID string
	binding   config.Binding
}

// discover asks the registries at the addresses, as far as a login serves them
// in conf, where the images of its context lie. What is away, or has no such
// service, is passed over: Docker works without.
func (sys system) discover(ctx context.Context, s *session.Session, conf *config.Config, addresses []config.Address) []found {
	if s.Env.Precedence() != "" {
		return nil // the environment's context need not be the login's
	}
	ctx, cancel := context.WithTimeout(ctx, patienceForStats)
	defer cancel()
	type answer struct {
		found *found
		err   error
	}
	answers := make([]answer, len(addresses))
	var asking sync.WaitGroup
	for i, address := range addresses {
		asking.Go(func() {
			defer crash.Guard()
			f, err := sys.statsOf(ctx, s, conf, address)
			answers[i] = answer{f, err}
		})
	}
	asking.Wait()
	var all []found
	for i, a := range answers {
		switch {
		case a.err != nil:
			sys.trace("%s does not say where its images lie: %v", addresses[i], a.err)
		case a.found == nil:
		case a.found.address.Host() != addresses[i].Host():
			sys.say("%s names %s for images of %s. That is another host, so it is not set up; if you trust it: %s configure --registry %s",
				addresses[i], a.found.address, a.found.contextID, program, a.found.address)
		default:
			all = append(all, *a.found)
		}
	}
	return all
}

// statsOf asks one registry. It is nil if there is nothing new.
func (sys system) statsOf(ctx context.Context, s *session.Session, conf *config.Config, address config.Address) (*found, error) {
	b, bound := conf.Lookup(address)
	place, loggedIn := conf.Place(b.Identity, b.Profile)
	if !bound || !loggedIn || b.APIKeyFile != "" {
		return nil, nil
	}
	cred, err := s.Login(ctx, place, b.Context)
	if err != nil {
		return nil, err
	}
	claims, err := oauth.ParseClaims(cred.Secret.Reveal())
	if err != nil {
		return nil, err
	}
	registry, err := sys.remote(address)
	if err != nil {
		return nil, err
	}
	stats, err := registry.Stats(ctx, cred.Secret)
	if err != nil || stats.ServerURL == "" {
		return nil, err
	}
	own, err := config.ParseAddress(stats.ServerURL)
	if err != nil {
		return nil, fmt.Errorf("its serverUrl is %w", err)
	}
	f := &found{address: own, contextID: oauth.Clean(claims.Context), binding: b}
	f.binding.ByConfigure = true
	f.binding.NamedBy = conf.NamedBy(address)
	if own.HasPort() { // without a port it is the address of every context
		f.binding.Context = claims.Context
	}
	if own == address || own.IsPlatform() && conf.IdentityOf(own) != b.Identity {
		return nil, nil
	}
	if have, bound := conf.Bindings[own]; bound && !serves(have, f.binding) {
		return nil, nil // somebody has chosen another login or context for it
	}
	return f, nil
}

// serves reports whether an address that is bound as have is served as it would
// be with the binding want.
func serves(have, want config.Binding) bool {
	return have.Identity == want.Identity && have.Profile == want.Profile &&
		(have.Context == want.Context || platform.SameContext(have.Context, want.Context))
}
