package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/remote"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// target is a registry and what serves it.
type target struct {
	*machine
	address  config.Address // empty: a login that serves none
	bad      failures
	source   session.Source // "" if nothing serves it
	identity string         // base URL of the identity service of whatever serves it
	place    *config.Login  // the login that it is bound to, nil if there is none
	context  string         // of the binding
	windows  bool           // Docker asks our program in Windows
	none     *session.Error // why the profile has no login, nil if it has one

	cred   *session.Credential // once login holds
	claims oauth.Claims        // of cred, the zero Claims where it is an API key
	denied *remote.Error       // what the registry said to whom it knew and did not let in
}

// loginChecks are those of a login that serves no registry.
var loginChecks = []check[*target]{
	{"login", []string{"settings", "environment"}, (*target).login},
	{"role", []string{"login"}, (*target).role},
}

var targetChecks = append(loginChecks[:2:2], []check[*target]{
	{"wiring", []string{"settings", "docker"}, (*target).wiring},
	{"plaintext", []string{"docker"}, (*target).plaintext},
	{"podman", nil, (*target).podman},
	{"helm", nil, (*target).helm},
	{"registry", []string{"login"}, (*target).registry},
	{"service", []string{"registry", "role"}, (*target).service},
}...)

// choose finds out which registries there are to look at: those of logins and of
// variables, and those that Docker asks us for; the platform's own, which any
// credential of a variable serves, only where there is no other.
func (m *machine) choose() error {
	addresses, bindings, err := m.session.Registries()
	if err != nil {
		return err
	}
	if m.places, err = m.session.Places(); err != nil {
		return err
	}
	if m.options.Profile != "" {
		return m.chooseProfile(bindings)
	}
	helpers, _ := m.Docker.Helpers() // unreadable: the check docker says so
	if m.options.Registry != "" {
		addresses = []config.Address{m.options.Registry}
	} else {
		for key, helper := range helpers {
			if address, err := config.ParseAddress(key); err == nil && dockerconfig.IsOurs(helper) {
				addresses = append(addresses, address)
			}
		}
		slices.Sort(addresses)
		addresses = slices.Compact(addresses)
	}
	var unused []*target
	for _, address := range addresses {
		b := bindings[address]
		t := &target{
			machine: m, address: address, source: m.session.Source(address), context: b.Context,
			identity: b.Identity, place: m.placeOf(b), windows: helpers[string(address)] == dockerconfig.HelperInWindows,
		}
		switch t.source {
		case session.FromAPIKey, session.FromAPIKeyFile, session.FromAccessToken:
			t.identity, _ = m.session.Env.IdentityURL() // unusable: the check environment says so
		}
		wanted := address == m.options.Registry || t.place != nil || dockerconfig.IsOurs(helpers[string(address)])
		if !wanted && (t.source == "" || address.IsPlatform() && t.source != session.FromBoundFile) {
			unused = append(unused, t)
			continue
		}
		m.targets = append(m.targets, t)
	}
	if len(m.targets) == 0 {
		m.targets = unused
	}
	return nil
}

// chooseProfile is choose for one login, whatever comes before it.
func (m *machine) chooseProfile(bindings map[config.Address]config.Binding) error {
	place, err := m.session.Pick(m.options.Profile)
	var none *session.Error
	if errors.As(err, &none) && none.Outcome == session.NotLoggedIn {
		m.targets = []*target{{machine: m, none: none}}
		return nil
	}
	if err != nil {
		return err
	}
	m.places = []config.Login{place}
	t := target{machine: m, source: session.FromLogin, identity: place.Identity, place: &place}
	for address, b := range bindings {
		if b.Identity == place.Identity && b.Profile == place.Profile {
			of := t
			of.address, of.context = address, b.Context
			m.targets = append(m.targets, &of)
		}
	}
	slices.SortFunc(m.targets, func(a, b *target) int { return strings.Compare(string(a.address), string(b.address)) })
	if len(m.targets) == 0 {
		m.targets = []*target{&t}
	}
	return nil
}

func (m *machine) placeOf(b config.Binding) *config.Login {
	for _, place := range m.places {
		if place.Identity == b.Identity && place.Profile == b.Profile {
			return &place
		}
	}
	return nil
}

// login has a credential made as Docker would get it.
func (t *target) login(ctx context.Context) Finding {
	switch {
	case t.windows:
		return inWindows()
	case t.none != nil:
		return failed(t.none.Remedy, "%s", t.none.What)
	}
	if t.bad.has("keychain") && t.source == session.FromLogin && t.place.Store == store.KeychainName {
		return t.bad.before("keychain") // and it is not asked, with its prompt, once more
	}
	s := t.Session()
	var err error
	if t.options.Profile != "" {
		t.cred, err = s.Login(ctx, *t.place, t.context)
	} else {
		t.cred, err = s.Credential(ctx, session.Request{Address: t.address})
	}
	var e *session.Error
	switch {
	case errors.As(err, &e) && e.Outcome == session.Unreachable && t.bad.has("identity"):
		return t.bad.before("identity")
	case errors.As(err, &e):
		return failed(t.mend(e), "%s", e.What)
	case err != nil:
		return failed("", "%v", err)
	}
	t.claims, _ = oauth.ParseClaims(t.cred.Secret.Reveal()) // of an API key there are none
	if len(t.cred.Notes) > 0 {
		remedy := ""
		if t.cred.Source == session.FromLogin && !t.bad.has("identity") {
			remedy = t.logIn()
		}
		return warning(remedy, "%s", strings.Join(t.cred.Notes, "; "))
	}
	by := "by the " + t.cred.Source.Describe()
	if t.cred.Source == session.FromLogin {
		by = "by the login of profile " + t.place.Profile
	}
	return ok("%s in %s, %s", t.claims.Subject, t.claims.Context, by)
}

// mend is the remedy of a failed login.
func (t *target) mend(e *session.Error) string {
	switch {
	case e.Outcome == session.Unreachable: // for which others name this very command
		return "try again; if it lasts, the identity service has to be mended"
	case e.Remedy == "":
		return t.logIn()
	}
	return e.Remedy
}

// logIn is the remedy that is a new login, where the one before lies.
func (t *target) logIn() string {
	var again session.LoginCommand
	if t.address != "" {
		again.Addresses = []config.Address{t.address}
	}
	if t.place != nil {
		again.Profile, again.Insecure = t.place.Profile, t.place.Store == store.FileName
	}
	return session.Run(again.String())
}

// role: without it, the registry lets nobody in.
func (t *target) role(context.Context) Finding {
	switch {
	case t.windows:
		return inWindows()
	case t.claims.Context == "":
		return skipped("an API key does not say its roles")
	}
	role := platform.RoleFor(platform.RegistryRole, t.claims.Context)
	if platform.HasRole(t.claims.Roles, platform.RegistryRole, t.claims.Context) {
		return ok("%s", role)
	}
	return failed(
		fmt.Sprintf("have whoever administers %s give you that role, or choose another context: %s context list", t.claims.Context, program),
		"%s lacks the role %s", t.claims.Subject, role)
}
