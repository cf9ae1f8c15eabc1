package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

type statusOptions struct {
	profile string
	output  string
}

func (sys system) newStatus() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say who is logged in, where secrets lie and what Docker would get",
		Long: `Say for each registry which source serves it, and for each login who it is, in
which context, whether the registry's role is there, where its secrets lie and
when it ends.

A registry is left out where no login or key serves it, neither Docker nor
podman asks for it, and there is another one to show: ` + platform.RegistryHost + ` before
anybody uses it, and what was served before a logout and an unconfigure.

Exit code: 0 all usable, 1 not logged in, 3 expired or refused, 4 keychain out
of reach.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.status(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.profile, "profile", "", "`name` of the one login to look at")
	addOutput(cmd, &o.output)
	completeNothing(cmd, "profile")
	return cmd
}

// addOutput gives a command the flag --output.
func addOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "text", "`format`: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return usagef("--output is text or json, not %q", output)
	}
	return nil
}

// report is what status prints as JSON.
type report struct {
	Registries []registryReport `json:"registries"`
	Logins     []loginReport    `json:"logins"`
}

// registryReport is what Docker would get for one registry.
type registryReport struct {
	Address    string `json:"address"`
	State      string `json:"state"`              // usable, or a session.Outcome
	Source     string `json:"source,omitempty"`   // login, or a variable's name
	Identity   string `json:"identity,omitempty"` // of the login that it is bound to
	Profile    string `json:"profile,omitempty"`  // likewise
	Subject    string `json:"subject,omitempty"`  // of the token
	Context    string `json:"context,omitempty"`  // likewise; without a token, what it would be for
	OwnContext bool   `json:"ownContext"`         // the binding says so (context use --registry)
	// RegistryRole says whether the token holds the registry's role in its
	// context; null where there is no token.
	RegistryRole *bool    `json:"registryRole"`
	APIKeyFile   string   `json:"apiKeyFile,omitempty"` // configured: serves before the login
	Where        []string `json:"where,omitempty"`      // secrets that are not a login's
	Configured   bool     `json:"configured"`           // Docker asks us for it
	Notes        []string `json:"notes,omitempty"`
	Error        string   `json:"error,omitempty"`

	user       string     // of the login that serves it
	expires    *time.Time // of a token that is not a login's
	podmanOnly bool       // podman asks us for it, and there is no Docker
	remedy     string
	code       int
}

type loginReport struct {
	Profile      string     `json:"profile"`
	Identity     string     `json:"identity"`
	State        string     `json:"state"` // usable, or a session.Outcome
	User         string     `json:"user,omitempty"`
	Subject      string     `json:"subject,omitempty"`
	Method       string     `json:"method,omitempty"`
	Context      string     `json:"context,omitempty"`
	RegistryRole *bool      `json:"registryRole"` // null: not known, for want of a token
	Where        []string   `json:"where"`
	Expires      *time.Time `json:"expires,omitempty"` // of the newest token; a login with a key outlives it
	Registries   []string   `json:"registries"`
	// OwnContexts are the contexts of those of Registries that are in another
	// than Context, or fixed to it, by address.
	OwnContexts map[string]string `json:"ownContexts,omitempty"`
	Notes       []string          `json:"notes,omitempty"`
	Error       string            `json:"error,omitempty"`

	remedy string
	code   int
}

const usable = "usable"

func (sys system) status(ctx context.Context, o statusOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	limit, note := sys.timeout()
	if note != "" {
		sys.warn(note)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := sys.waitBriefly(ctx, "Looking")
	r, err := sys.examine(ctx, o.profile)
	done()
	if err != nil {
		return fmt.Errorf("looking at the logins: %w", err)
	}
	if o.output == "json" {
		err = sys.printJSON(r)
	} else {
		sys.printStatus(r, o.profile)
	}
	if code := r.exitCode(); err == nil && code != exitOK {
		return exitError(code)
	}
	return err
}

// examine looks at everything, or at one profile's logins.
func (sys system) examine(ctx context.Context, profile string) (*report, error) {
	s := sys.session(patienceForDocker)
	r := &report{Registries: []registryReport{}, Logins: []loginReport{}}
	places, err := s.Places()
	if err != nil {
		return nil, err
	}
	for _, place := range places {
		if profile == "" || place.Profile == profile {
			l := reportLogin(s.Status(ctx, place))
			if len(l.Registries) == 0 && l.code == exitEnded { // a new login would mend nothing
				l.remedy = logoutRemedy(place, places)
			}
			r.Logins = append(r.Logins, l)
		}
	}
	if profile != "" {
		return r, nil
	}
	addresses, bindings, err := s.Registries()
	if err != nil {
		return nil, err
	}
	wired, podmanOnly := sys.wired(), sys.podmanOnly()
	for _, address := range addresses {
		b := bindings[address]
		registry := reportRegistry(ctx, s, address, b)
		registry.Configured = wired[registry.Address]
		registry.podmanOnly = podmanOnly[registry.Address] != ""
		if registry.Context == "" && registry.Source == string(session.FromLogin) { // none to be had now
			registry.Context = cmp.Or(oauth.Clean(b.Context), r.contextOf(b))
		}
		registry.OwnContext = b.Context != "" && platform.SameContext(registry.Context, b.Context)
		for _, l := range r.Logins {
			if registry.Source == string(session.FromLogin) && l.Identity == b.Identity && l.Profile == b.Profile {
				registry.user = l.User
			}
		}
		r.Registries = append(r.Registries, registry)
	}
	// As doctor has it, it is not looked at for its own sake.
	isUnused := func(registry registryReport) bool {
		return registry.State == string(session.NotLoggedIn) && !registry.Configured && !registry.podmanOnly
	}
	if used := slices.DeleteFunc(slices.Clone(r.Registries), isUnused); len(used) > 0 {
		r.Registries = used
	}
	return r, nil
}

// logoutRemedy forgets a login, whatever others there are of its profile.
func logoutRemedy(place config.Login, places []config.Login) string {
	command := program + " logout"
	if place.Profile != config.DefaultProfile {
		command += " --profile " + place.Profile
	}
	for _, other := range places {
		if other.Profile == place.Profile && other.Identity != place.Identity {
			command = "DTZ_IDENTITY_URL=" + place.Identity + " " + command
			break
		}
	}
	return session.Run(command)
}

// contextOf is the default context of the login that b names, "" if that is not
// known.
func (r *report) contextOf(b config.Binding) string {
	for _, l := range r.Logins {
		if l.Identity == b.Identity && l.Profile == b.Profile {
			return l.Context
		}
	}
	return ""
}

func reportRegistry(ctx context.Context, s *session.Session, address config.Address, b config.Binding) registryReport {
	r := registryReport{
		Address: string(address), State: usable, Source: string(s.Source(address)),
		Identity: b.Identity, Profile: b.Profile, APIKeyFile: b.APIKeyFile,
	}
	cred, err := s.Credential(ctx, session.Request{Address: address})
	if err != nil {
		var e *session.Error
		if errors.As(err, &e) {
			r.Error, r.remedy = e.What, e.Remedy
		}
		r.State, r.code = stateOf(err)
		return r
	}
	r.Source, r.Where, r.Notes = string(cred.Source), cred.Where, cred.Notes
	if !cred.Expires.IsZero() {
		r.expires = &cred.Expires
	}
	if claims, err := oauth.ParseClaims(cred.Secret.Reveal()); err == nil {
		r.Subject, r.Context = oauth.Clean(claims.Subject), oauth.Clean(claims.Context)
		has := platform.HasRole(claims.Roles, platform.RegistryRole, claims.Context)
		r.RegistryRole = &has
	}
	return r
}

func reportLogin(st session.Status) loginReport {
	l := loginReport{
		Profile: st.Place.Profile, Identity: st.Place.Identity,
		State: usable, Where: st.Where, Registries: []string{}, Notes: st.Notes,
	}
	if st.Err != nil {
		l.State, l.code = stateOf(st.Err)
		l.Error, l.remedy = st.Err.What, st.Err.Remedy
	}
	if login := st.Login; login != nil {
		l.User, l.Subject, l.Method = oauth.Clean(login.User), oauth.Clean(login.Subject), string(login.Method)
		l.Context = oauth.Clean(login.Context)
		if login.Token(login.Context).Access != "" {
			has := hasRole(login)
			l.RegistryRole = &has
		}
		if !st.Expires.IsZero() {
			l.Expires = &st.Expires
		}
	}
	for _, address := range st.Addresses {
		l.Registries = append(l.Registries, string(address))
		if own := st.OwnContexts[address]; own != "" {
			if l.OwnContexts == nil {
				l.OwnContexts = map[string]string{}
			}
			l.OwnContexts[string(address)] = oauth.Clean(own)
		}
	}
	return l
}

// stateOf is an outcome and the exit code that it has.
func stateOf(err error) (string, int) {
	var e *session.Error
	if !errors.As(err, &e) {
		return string(session.Misconfigured), exitFailure
	}
	switch e.Outcome {
	case session.Expired, session.Refused:
		return string(e.Outcome), exitEnded
	case session.StoreAway:
		return string(e.Outcome), exitStoreAway
	}
	return string(e.Outcome), exitFailure
}

// exitCode is the worst of what Docker would get. Logins count by themselves only
// where no registry shows them.
func (r *report) exitCode() int {
	worst, seen := exitOK, false
	for _, registry := range r.Registries {
		worst = max(worst, registry.code)
		seen = seen || registry.State != string(session.NotLoggedIn)
	}
	if seen {
		return worst
	}
	for _, l := range r.Logins {
		worst, seen = max(worst, l.code), true
	}
	if !seen {
		return exitFailure
	}
	return worst
}
