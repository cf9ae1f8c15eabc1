package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/gate"
)

func newInspect() *cobra.Command {
	var file string
	var at instant
	output := outputFormat("text")
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Say who a token is, whether it would be let in, and if not, which rule refuses it",
		Long: `Say who a token is, whether it would be let in, and if not, which rule refuses it.

The token is read from standard input, as "docker-credential-dtz token" prints
it, with or without --header. Nothing of it is sent anywhere; keys are fetched
only where the configuration has a jwks_url. Without --config the platform's key
verifies it, and every context is served.

Exit codes: 0 let in, 1 refused, 2 wrong usage.`,
		Example: "  docker-credential-dtz token | dtz-registry inspect --config dtz-registry.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := config.Platform()
			if file != "" {
				var err error
				if c, _, err = config.Load(file); err != nil {
					return err
				}
			}
			token, err := readToken(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			f, err := inspect(cmd.Context(), c, token, at.clock())
			if err != nil {
				return err
			}
			if err := f.print(cmd.OutOrStdout(), output, at.clock()()); err != nil {
				return err
			}
			if !f.Admitted {
				return errSilent
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "configuration `file` of dtz-registry")
	flags.Var(&at, "at", "judge as of this `time`, like 2026-11-24T09:00:00Z (default now)")
	flags.Var(&output, "output", "how to print what is found: text or json")
	return cmd
}

// instant is the value of --at.
type instant struct{ time.Time }

func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}

func (i *instant) Type() string { return "time" }

func (i *instant) Set(s string) (err error) {
	if i.Time, err = time.Parse(time.RFC3339, s); err != nil {
		return errors.New("want RFC 3339, like 2026-11-24T09:00:00Z")
	}
	return nil
}

func (i *instant) clock() func() time.Time {
	if i.IsZero() {
		return time.Now
	}
	return func() time.Time { return i.Time }
}

// maxInput is in bytes, and more than any token that is let in.
const maxInput = 256 << 10

func readToken(stdin io.Reader, stderr io.Writer) (string, error) {
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(stderr, "Paste a token, then press Enter and Ctrl-D.")
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	for _, prefix := range []string{"Authorization:", "Bearer "} {
		if len(token) >= len(prefix) && strings.EqualFold(token[:len(prefix)], prefix) {
			token = strings.TrimSpace(token[len(prefix):])
		}
	}
	if token == "" {
		return "", errors.New("no token on standard input")
	}
	return token, nil
}

// findings are what inspect prints. Times are in RFC 3339.
type findings struct {
	Admitted bool `json:"admitted"`
	// Rule is one of internal/registry, or the setting that stands against it.
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Verified says whether what follows is true, or only what the token says.
	Verified bool       `json:"verified"`
	Identity string     `json:"identity,omitempty"`
	Context  string     `json:"context,omitempty"`
	IssuedAt *time.Time `json:"issuedAt,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Roles    []string   `json:"roles,omitempty"`
	Actions  []string   `json:"actions,omitempty"` // pull, push, delete
}

// inspect asks the gate, as a request with the token would.
func inspect(ctx context.Context, c *config.Config, token string, now func() time.Time) (*findings, error) {
	g, err := gate.New(ctx, c, gate.Options{UserAgent: "dtz-registry/" + version(), Now: now})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v2/", nil)
	if err != nil {
		return nil, err
	}
	r.Header["Authorization"] = []string{"Bearer " + token}
	p, err := g.Authenticator.Authenticate(r)
	if err != nil {
		return refused(token, err)
	}
	f := &findings{
		Verified: true,
		Identity: p.Subject, Context: p.Context, Roles: p.Roles,
		IssuedAt: &p.IssuedAt, Expires: &p.Expires,
	}
	if err := g.Policy.Authorize(p); err != nil {
		f.Rule, f.Reason = "verification.roles", err.Error()
		open := registry.Policy{Contexts: []string{"*"}, Roles: g.Policy.Roles}
		if errOpen := open.Authorize(p); errOpen == nil || errOpen.Error() != err.Error() {
			f.Rule = "verification.contexts"
		}
		return f, nil
	}
	f.Admitted = true
	for _, action := range []registry.Action{registry.ActionPull, registry.ActionPush, registry.ActionDelete} {
		if g.Policy.Authorize(p, action) == nil {
			f.Actions = append(f.Actions, string(action))
		}
	}
	return f, nil
}

// refused is what is found out about a token that is no good. An error says
// that it could not be judged.
func refused(token string, err error) (*findings, error) {
	f := claimed(token)
	if e, ok := errors.AsType[*registry.TokenError](err); ok {
		f.Rule, f.Reason = string(e.Rule), e.Why
		f.Verified = isAboutClaims(e.Rule)
		return f, nil
	}
	e, ok := errors.AsType[*registry.Error](err)
	switch {
	case !ok || e.Status >= 500:
		return nil, fmt.Errorf("the token cannot be judged: %w", err)
	case e.Status == http.StatusForbidden:
		f.Rule, f.Verified = "verification.deny_list", true
	default:
		f.Rule = string(registry.RuleShape)
	}
	f.Reason = e.Error()
	return f, nil
}

// isAboutClaims reports whether a rule is asked only after the signature has
// been found good, and the claims to be readable in one way.
func isAboutClaims(rule registry.Rule) bool {
	switch rule {
	case registry.RuleIssuer, registry.RuleAudience, registry.RuleSubject, registry.RuleContext, registry.RuleRoles,
		registry.RuleContexts, registry.RuleIssuedAt, registry.RuleExpiry, registry.RuleExpired, registry.RuleNotBefore:
		return true
	}
	return false
}

// claimed is what a token says of itself, as far as that can be read.
func claimed(token string) *findings {
	_, rest, _ := strings.Cut(token, ".")
	encoded, _, _ := strings.Cut(rest, ".")
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return &findings{}
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return &findings{}
	}
	text := func(name string) string { s, _ := claims[name].(string); return s }
	date := func(name string) *time.Time {
		seconds, ok := claims[name].(float64)
		if !ok || seconds < 0 || seconds > 253402300799 { // the year 9999
			return nil
		}
		t := time.Unix(int64(seconds), 0)
		return &t
	}
	f := &findings{Identity: text("sub"), Context: text("scope"), IssuedAt: date("iat"), Expires: date("exp")}
	roles, _ := claims["roles"].([]any)
	for _, role := range roles {
		if s, ok := role.(string); ok {
			f.Roles = append(f.Roles, s)
		}
	}
	return f
}

func (f *findings) print(w io.Writer, output outputFormat, now time.Time) error {
	if output == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(f)
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, oneLine(value))
		}
	}
	if !f.Verified && f.Identity+f.Context != "" {
		fmt.Fprintln(w, "The token says of itself, and nothing vouches for it:")
	}
	row("identity", f.Identity)
	row("context", f.Context)
	row("issued", moment(f.IssuedAt, now))
	row("expires", moment(f.Expires, now))
	name, others := "roles", 0
	for _, role := range f.Roles {
		if !strings.Contains(role, "/containerregistry/") {
			others++
			continue
		}
		row(name, role)
		name = " "
	}
	switch {
	case others > 0 && others == len(f.Roles):
		row(name, fmt.Sprintf("%d, none of them of the container registry", others))
	case others > 0:
		row(name, fmt.Sprintf("and %d of other services", others))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if f.Admitted {
		_, err := fmt.Fprintf(w, "Let in. It may %s.\n", cmp.Or(strings.Join(f.Actions, ", "), "log in, and nothing else"))
		return err
	}
	_, err := fmt.Fprintf(w, "Refused by %s: %s\n", f.Rule, oneLine(f.Reason))
	return err
}

// moment is t, and how far that is from now, in whole units.
func moment(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	text := t.UTC().Format(time.RFC3339)
	away := t.Sub(now)
	distance := away.Abs()
	unit, n := "second", int(distance.Seconds())
	switch {
	case distance >= 48*time.Hour:
		unit, n = "day", int(distance.Hours()/24)
	case distance >= 2*time.Hour:
		unit, n = "hour", int(distance.Hours())
	case distance >= 2*time.Minute:
		unit, n = "minute", int(distance.Minutes())
	}
	if n != 1 {
		unit += "s"
	}
	if away < 0 {
		return fmt.Sprintf("%s (%d %s ago)", text, n, unit)
	}
	return fmt.Sprintf("%s (in %d %s)", text, n, unit)
}

// oneLine is text that anybody may have written, fit for a terminal.
func oneLine(s string) string {
	const most = 200
	cleaned := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
	if len(cleaned) > most {
		return cleaned[:most] + "…"
	}
	return cmp.Or(cleaned, "?")
}
