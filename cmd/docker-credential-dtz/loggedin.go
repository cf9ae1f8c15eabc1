package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/doctor"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// afterLogin sets Docker up, last, so that Docker is never pointed at a helper
// with nothing to give, and says in four lines what has come of it: who, where
// the secret lies, how long it lasts and what to do next.
func (sys system) afterLogin(ctx context.Context, s *session.Session, place config.Login, made made, addresses []config.Address, noConfigure bool) error {
	login := made.login
	st := sys.styleFor(sys.stderr)
	role := styled("with the registry's role")
	if !hasRole(login) {
		role = styled(st.warn("without the registry's role"))
	}
	before := ""
	if made.stayed {
		before = " as before"
	}
	sys.say("%s as %s in context %s%s, %s.", styled(st.good("Logged in")),
		styled(st.bold(who(login))), styled(st.bold(oauth.Clean(login.Context))), before, role)
	sys.say("The login lies in %s.", strings.Join(s.Where(place), " and "))
	sys.say("%s", lasts(place, login, addresses))
	done, next := "Docker's config.json was left alone", configureCommand(place, addresses)
	var added []config.Address
	if !noConfigure {
		var err error
		if added, err = sys.configureDocker(ctx, s, addresses); err != nil {
			return fmt.Errorf("logged in, but %w", err)
		}
		done, next = sys.used(s, place, login, addresses), fmt.Sprintf("docker push %s/IMAGE", addresses[0])
	}
	sys.warnClock(made.ahead)
	if !hasRole(login) {
		sys.warn("warning: " + roleAdvice(place, login, login.Context))
	}
	own := s.OwnContexts(place)
	if !noConfigure { // they are said in the last line
		for _, address := range addresses {
			if mayUse(login, own[address]) {
				added = append(added, address)
			}
		}
	}
	sys.sayOwnContexts(login, own, added)
	sys.notePrecedence(s, addresses)
	sys.say("%s. Next: %s", done, styled(st.bold(next)))
	return nil
}

// warnClock says that this machine's clock is wrong. The login does not mind as
// long as nobody sets it; certificates and builds do.
func (sys system) warnClock(ahead time.Duration) {
	if ahead.Abs() <= doctor.Leeway {
		return
	}
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	remedy := ""
	if command := doctor.ClockCommand(runtime.GOOS); command != "" {
		remedy = fmt.Sprintf("; to set it, %s", session.Run(command))
	}
	sys.warn(fmt.Sprintf("warning: this machine's clock is %s %s the identity service's%s", session.InWords(ahead.Abs()), side, remedy))
}

// mayUse reports whether the login's owner may use the context, as far as its
// newest token says.
func mayUse(login *store.Login, contextID string) bool {
	claims, err := oauth.ParseClaims(login.Newest().Access.Reveal())
	return err != nil || len(claims.Contexts) == 0 ||
		slices.ContainsFunc(claims.Contexts, func(id string) bool { return platform.SameContext(id, contextID) })
}

// used says what Docker has of the login at the addresses, and in which context
// where that is not the login's.
func (sys system) used(s *session.Session, place config.Login, login *store.Login, addresses []config.Address) string {
	own := s.OwnContexts(place)
	verb := "Docker uses it for "
	var where []string
	for _, address := range addresses {
		if s.Source(address) != session.FromLogin {
			verb = "Docker asks this helper for "
		}
		text := string(address)
		switch id := own[address]; {
		case id == "" || platform.SameContext(id, login.Context):
		case len(addresses) == 1:
			text += ", in context " + oauth.Clean(id)
		default:
			text += " (in context " + oauth.Clean(id) + ")"
		}
		where = append(where, text)
	}
	return verb + strings.Join(where, ", ")
}

// who names a login's owner.
func who(login *store.Login) string {
	if login.User == "" {
		return oauth.Clean(login.Subject)
	}
	return fmt.Sprintf("%s (%s)", oauth.Clean(login.User), oauth.Clean(login.Subject))
}

// claimsOf are those of the newest token in a context, empty where there is none.
func claimsOf(login *store.Login, contextID string) oauth.Claims {
	claims, err := oauth.ParseClaims(login.Token(contextID).Access.Reveal())
	if err != nil {
		return oauth.Claims{}
	}
	return claims
}

// hasRole reports whether the newest token of the login's context holds the
// registry's role.
func hasRole(login *store.Login) bool {
	return platform.HasRole(claimsOf(login, login.Context).Roles, platform.RegistryRole, login.Context)
}

// roleAdvice is what to do about a role that is missing in a context: work in
// one where it is there, or have somebody give it.
func roleAdvice(place config.Login, login *store.Login, contextID string) string {
	claims := claimsOf(login, contextID)
	missing := fmt.Sprintf("the registry will refuse you without the role %s; ", platform.RoleFor(platform.RegistryRole, contextID))
	better := slices.IndexFunc(claims.Contexts, func(id string) bool {
		return platform.HasRole(claims.Roles, platform.RegistryRole, id)
	})
	if better >= 0 {
		id := oauth.Clean(claims.Contexts[better])
		command := program + " context use " + id
		if place.Profile != config.DefaultProfile {
			command += " --profile " + place.Profile
		}
		return missing + fmt.Sprintf("you have it in %s: %s", id, session.Run(command))
	}
	return missing + "ask an administrator of the context for it"
}

// configureCommand is the one that lets Docker use the login at place.
func configureCommand(place config.Login, addresses []config.Address) string {
	command := program + " configure" + session.RegistryFlags(addresses)
	if place.Profile != config.DefaultProfile {
		command += " --profile " + place.Profile
	}
	return command
}

func lasts(place config.Login, login *store.Login, addresses []config.Address) string {
	switch login.Method {
	case store.KeptKey:
		return fmt.Sprintf("It lasts until you log out or its API key, %q, is deleted.", login.Alias)
	case store.APIKey:
		return "It lasts as long as the API key."
	}
	return fmt.Sprintf("Unused, it ends after %s; each use renews it. To outlast a weekend: %s", session.InWords(login.Newest().Lifetime),
		session.LoginCommand{Addresses: addresses, Profile: place.Profile, Insecure: place.Store == store.FileName, Keep: true})
}
