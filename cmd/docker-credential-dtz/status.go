package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
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
		Long: `Say for each login who it is, in which context, whether the registry's role is
there, where its secrets lie, when it ends and which registries it serves.

Exit code: 0 all usable, 1 not logged in, 3 expired or refused, 4 keychain out
of reach.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.status(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.profile, "profile", "", "`name` of the one login to look at")
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	completeNothing(cmd, "profile")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// report is what status prints as JSON.
type report struct {
	// Source is what serves cr.dtz.rocks now: login, a variable's name, or none.
	Source      string             `json:"source"`
	Environment *environmentReport `json:"environment,omitempty"`
	Logins      []loginReport      `json:"logins"`
}

type environmentReport struct {
	Source  string   `json:"source"`
	State   string   `json:"state"`
	Subject string   `json:"subject,omitempty"`
	Context string   `json:"context,omitempty"`
	Where   []string `json:"where"`
	Error   string   `json:"error,omitempty"`

	code int
}

type loginReport struct {
	Profile      string           `json:"profile"`
	Identity     string           `json:"identity"`
	State        string           `json:"state"` // usable, or a session.Outcome
	User         string           `json:"user,omitempty"`
	Subject      string           `json:"subject,omitempty"`
	Method       string           `json:"method,omitempty"`
	Context      string           `json:"context,omitempty"`
	RegistryRole bool             `json:"registryRole"`
	Where        []string         `json:"where"`
	Expires      *time.Time       `json:"expires,omitempty"` // of the newest token; a login with a key outlives it
	Registries   []registryReport `json:"registries"`
	Notes        []string         `json:"notes,omitempty"`
	Error        string           `json:"error,omitempty"`

	remedy string
	code   int
}

type registryReport struct {
	Address    string `json:"address"`
	Context    string `json:"context,omitempty"`    // where it is not the login's own
	APIKeyFile string `json:"apiKeyFile,omitempty"` // serves before the login
	Configured bool   `json:"configured"`           // Docker asks us for it
}

const usable = "usable"

func (sys system) status(ctx context.Context, o statusOptions) error {
	if o.output != "text" && o.output != "json" {
		return usagef("--output is text or json, not %q", o.output)
	}
	r, err := sys.examine(ctx, o.profile)
	if err != nil {
		return fmt.Errorf("looking at the logins: %w", err)
	}
	if o.output == "json" {
		enc := json.NewEncoder(sys.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		sys.printStatus(r)
	}
	if code := r.exitCode(); err == nil && code != exitOK {
		return exitError(code)
	}
	return err
}

func (sys system) examine(ctx context.Context, profile string) (*report, error) {
	s := sys.session(patienceForDocker)
	places, err := s.Places()
	if err != nil {
		return nil, err
	}
	wired := sys.wired()
	r := &report{Source: "none", Logins: []loginReport{}}
	for _, place := range places {
		if profile == "" || place.Profile == profile {
			l := reportLogin(s.Status(ctx, place), wired)
			r.Logins = append(r.Logins, l)
			if s.Serves(place, platform.RegistryHost) && l.code == exitOK {
				r.Source = string(session.FromLogin)
			}
		}
	}
	if source := s.Env.Precedence(); source != "" && profile == "" {
		r.Environment = sys.reportEnvironment(ctx, s, source)
		if r.Environment.code == exitOK {
			r.Source = r.Environment.Source
		}
	}
	return r, nil
}

func (sys system) reportEnvironment(ctx context.Context, s *session.Session, source session.Source) *environmentReport {
	e := &environmentReport{Source: string(source), State: usable, Where: []string{"the variable " + string(source)}}
	if source == session.FromAPIKeyFile {
		e.Where = []string{"the file " + sys.getenv(string(source))}
	}
	if dir := s.CacheDir(); dir != "" && source != session.FromAccessToken {
		e.Where = append(e.Where, "a token in "+dir+", sealed with a key made from the API key")
	}
	limit, _ := sys.timeout()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cred, err := s.Credential(ctx, session.Request{Address: platform.RegistryHost})
	switch {
	case err != nil:
		e.State, e.code = stateOf(err)
		e.Error = err.Error()
	case cred.Source == session.FromLogin:
		e.State, e.Error = string(session.Expired), fmt.Sprint(cred.Notes)
	case cred.Username == session.UserAPIKey:
		e.Error = fmt.Sprint(cred.Notes)
	default:
		if claims, err := oauth.ParseClaims(cred.Secret.Reveal()); err == nil {
			e.Subject, e.Context = oauth.Clean(claims.Subject), oauth.Clean(claims.Context)
		}
	}
	return e
}

func reportLogin(st session.Status, wired map[string]bool) loginReport {
	l := loginReport{
		Profile: st.Place.Profile, Identity: st.Place.Identity,
		State: usable, Where: st.Where, Registries: []registryReport{}, Notes: st.Notes,
	}
	if st.Err != nil {
		l.State, l.code = stateOf(st.Err)
		l.Error, l.remedy = st.Err.What, st.Err.Remedy
	}
	if login := st.Login; login != nil {
		l.User, l.Subject, l.Method = oauth.Clean(login.User), oauth.Clean(login.Subject), string(login.Method)
		l.Context, l.RegistryRole = oauth.Clean(login.Context), hasRole(login)
		if newest := login.Newest(); newest.Access != "" {
			expires := newest.Expires()
			l.Expires = &expires
		}
	}
	for _, address := range slices.Sorted(maps.Keys(st.Bindings)) {
		b := st.Bindings[address]
		l.Registries = append(l.Registries, registryReport{string(address), b.Context, b.APIKeyFile, wired[string(address)]})
	}
	return l
}

// stateOf is an outcome and the exit code that it has.
func stateOf(err error) (string, int) {
	e, ok := err.(*session.Error)
	if !ok {
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

// exitCode is the worst of what is there.
func (r *report) exitCode() int {
	if r.Environment != nil {
		return r.Environment.code
	}
	if len(r.Logins) == 0 {
		return exitFailure
	}
	worst := exitOK
	for _, l := range r.Logins {
		worst = max(worst, l.code)
	}
	return worst
}

func (sys system) printStatus(r *report) {
	print := func(format string, args ...any) { fmt.Fprintf(sys.stdout, format+"\n", args...) }
	if e := r.Environment; e != nil {
		print("%s: %s", e.Source, e.State)
		if e.Subject != "" {
			print("  who       %s in context %s", e.Subject, e.Context)
		}
		for _, where := range e.Where {
			print("  secret    %s", where)
		}
		if e.Error != "" {
			print("  but       %s", e.Error)
		}
		print("  serves    %s and DTZ_REGISTRIES, before any login", platform.RegistryHost)
	}
	for _, l := range r.Logins {
		print("profile %s: %s", l.Profile, l.State)
		if l.Error != "" {
			print("  why       %s", l.Error)
		}
		if l.remedy != "" {
			print("  remedy    %s", l.remedy)
		}
		if l.Subject != "" {
			who := l.Subject
			if l.User != "" {
				who = l.User + " (" + l.Subject + ")"
			}
			print("  who       %s, by %s", who, methodNames[store.Method(l.Method)])
			role := "with the registry's role"
			if !l.RegistryRole {
				role = "WITHOUT the registry's role " + platform.RoleFor(platform.RegistryRole, l.Context)
			}
			print("  context   %s, %s", l.Context, role)
		}
		print("  identity  %s", l.Identity)
		for _, where := range l.Where {
			print("  secret    %s", where)
		}
		if l.Expires != nil && l.code == exitOK {
			print("  lasts     %s", sys.lastsNow(l))
		}
		for _, reg := range l.Registries {
			print("  serves    %s", describe(reg, l.Context))
		}
		for _, note := range l.Notes {
			print("  note      %s", note)
		}
	}
	if r.Environment == nil && len(r.Logins) == 0 {
		print("not logged in")
		sys.say("hint: %s", session.Run(program+" login"))
	}
}

var methodNames = map[store.Method]string{
	store.Password: "password",
	store.APIKey:   "an API key",
	store.KeptKey:  "an API key made for this machine (login --keep)",
	store.Adopted:  "a token from docker login",
}

func (sys system) lastsNow(l loginReport) string {
	switch store.Method(l.Method) {
	case store.KeptKey, store.APIKey:
		return "as long as its API key"
	}
	return fmt.Sprintf("%s more unless it is used; each use renews it", session.InWords(l.Expires.Sub(sys.now())))
}

func describe(r registryReport, loginContext string) string {
	text := r.Address
	if r.Context != "" && r.Context != loginContext {
		text += " in context " + r.Context
	}
	if r.APIKeyFile != "" {
		text += ", with the API key in " + r.APIKeyFile
	}
	if !r.Configured {
		text += fmt.Sprintf(" (Docker does not ask for it: run %q)", program+" configure --registry "+r.Address)
	}
	return text
}
