package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

func (sys system) newContext() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "List the contexts of a login, and choose which registry is in which",
		Long: `A token is for one context, and a registry shows whoever has it that context's
images. A login has a default context; any registry that it serves can have one
of its own, so that the registries of several contexts work side by side, from
one login.`,
		Example: `  docker-credential-dtz context list
  docker-credential-dtz context use context-abc12345
  docker-credential-dtz context use context-def12345 --registry cr.dtz.rocks:3214`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sys.newContextList(), sys.newContextUse())
	return cmd
}

func (sys system) newContextList() *cobra.Command {
	var profile, output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the contexts that the identity may use, and which registry is in which",
		Long: `List the contexts that the identity may use, as the identity service says now;
for each whether the registry's role is there, and which registries are in it.
The login's default, marked *, is that of every registry without one of its own.
` + platform.RegistryHost + ` without a port stands for all its ports that are not listed.

The role of a context is known once a token for it has been obtained, and "?"
before. A context that is in use here but not the identity's any more is listed
as LOST.

--output json prints {"profile", "identity", "user", "subject", "contexts"}, and
for each context {"id", "default", "usable", "registryRole", "registries"}:
registryRole is null while it is not known, usable is false for a lost one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.listContexts(cmd.Context(), profile, output) },
	}
	cmd.Flags().StringVar(&profile, "profile", "", "`name` of the login (default: the only one, or "+config.DefaultProfile+")")
	addOutput(cmd, &output)
	completeNothing(cmd, "profile")
	return cmd
}

// contextsReport is what context list prints as JSON.
type contextsReport struct {
	Profile  string          `json:"profile"`
	Identity string          `json:"identity"`
	User     string          `json:"user,omitempty"`
	Subject  string          `json:"subject"`
	Contexts []contextReport `json:"contexts"`
}

type contextReport struct {
	ID           string   `json:"id"`
	Default      bool     `json:"default"`      // the login's
	Usable       bool     `json:"usable"`       // false: in use here, and not the identity's any more
	RegistryRole *bool    `json:"registryRole"` // null: not known, for want of a token
	Registries   []string `json:"registries"`   // that are in it
}

func (sys system) listContexts(ctx context.Context, profile, output string) error {
	if err := checkOutput(output); err != nil {
		return err
	}
	s := sys.session(patienceForPeople)
	place, err := sys.contextLogin(s, profile, nil)
	if err != nil {
		return fmt.Errorf("listing contexts: %w", err)
	}
	done := sys.waitBriefly(ctx, "Asking the identity service")
	ids, err := s.Contexts(ctx, place)
	done()
	if err != nil {
		return fmt.Errorf("listing contexts: %w", err)
	}
	status := s.Status(ctx, place)
	if status.Login == nil {
		return fmt.Errorf("listing contexts: %w", status.Err)
	}
	report := reportContexts(ids, status, sys.now())
	if output == "json" {
		err = sys.printJSON(report)
	} else {
		sys.say("Contexts of %s, profile %s; * is the default:", who(status.Login), place.Profile)
		err = sys.printContexts(report)
	}
	sys.notePrecedence(s, status.Addresses)
	return err
}

func reportContexts(ids []string, status session.Status, now time.Time) contextsReport {
	login := status.Login
	r := contextsReport{
		Profile: status.Place.Profile, Identity: status.Place.Identity,
		User: oauth.Clean(login.User), Subject: oauth.Clean(login.Subject), Contexts: []contextReport{},
	}
	at := func(id string) *contextReport {
		for i := range r.Contexts {
			if platform.SameContext(r.Contexts[i].ID, id) {
				return &r.Contexts[i]
			}
		}
		r.Contexts = append(r.Contexts, contextReport{ID: oauth.Clean(id), RegistryRole: roleIn(login, id, now), Registries: []string{}})
		return &r.Contexts[len(r.Contexts)-1]
	}
	for _, id := range ids {
		at(id).Usable = true
	}
	at(login.Context).Default = true
	for _, address := range status.Addresses {
		c := at(cmp.Or(status.OwnContexts[address], login.Context))
		c.Registries = append(c.Registries, string(address))
	}
	return r
}

func (sys system) printContexts(r contextsReport) error {
	st := sys.styleFor(sys.stdout)
	plain := func(text string) string { return text }
	type row struct {
		id, role, registries string
		set                  func(string) string // how the role is set off
	}
	rows := []row{{"CONTEXT", "ROLE", "REGISTRIES", plain}}
	for _, c := range r.Contexts {
		row := row{c.ID, "?", cmp.Or(inWords(c.Registries), "-"), plain}
		if c.Default {
			row.id += " *"
		}
		switch {
		case !c.Usable:
			row.role, row.set = "LOST", st.bad
		case c.RegistryRole != nil && *c.RegistryRole:
			row.role, row.set = "yes", st.good
		case c.RegistryRole != nil:
			row.role, row.set = "MISSING", st.bad
		}
		rows = append(rows, row)
	}
	var widths [2]int
	for _, row := range rows {
		widths[0], widths[1] = max(widths[0], len(row.id)), max(widths[1], len(row.role))
	}
	var table strings.Builder
	for _, row := range rows {
		role := row.set(row.role) + strings.Repeat(" ", widths[1]-len(row.role)) // what sets it off has no width
		fmt.Fprintf(&table, "%-*s  %s  %s\n", widths[0], row.id, role, row.registries)
	}
	_, err := io.WriteString(sys.stdout, table.String())
	return err
}

// inWords lists addresses for people, with what the platform's own stands for.
func inWords[T ~string](addresses []T) string {
	words := make([]string, len(addresses))
	for i, address := range addresses {
		words[i] = string(address)
		if address == platform.RegistryHost {
			words[i] += " and its other ports"
		}
	}
	return strings.Join(words, ", ")
}

// roleIn reports whether a token for the context holds the registry's role; nil
// where there is no valid one to tell. A token for another context may name the
// role too, but gives nothing in this one.
func roleIn(login *store.Login, contextID string, now time.Time) *bool {
	token := login.Token(contextID)
	claims, err := oauth.ParseClaims(token.Access.Reveal())
	if err != nil || !token.Valid(now) {
		return nil
	}
	has := platform.HasRole(claims.Roles, platform.RegistryRole, contextID)
	return &has
}

// contextLogin is the login that a context command is about: the profile's,
// else the one that serves the addresses, else the only one or the default one.
func (sys system) contextLogin(s *session.Session, profile string, addresses []config.Address) (config.Login, error) {
	if profile != "" {
		if err := checkProfile(profile); err != nil {
			return config.Login{}, err
		}
		return s.Pick(profile)
	}
	place, found, err := s.ServedBy(addresses)
	if found || err != nil {
		return place, err
	}
	places, err := s.Places()
	if err == nil && len(places) == 1 {
		return places[0], nil
	}
	if len(places) > 1 && !slices.ContainsFunc(places, func(p config.Login) bool { return p.Profile == config.DefaultProfile }) {
		var names []string
		for _, place := range places {
			names = append(names, place.Profile)
		}
		return place, withHint(fmt.Errorf("there are the logins %s", strings.Join(names, " and ")), "name one with --profile")
	}
	return s.Pick(config.DefaultProfile)
}

// notePrecedence says where the login does not decide: a credential of the
// environment goes before it, and is in a context of its own.
func (sys system) notePrecedence(s *session.Session, addresses []config.Address) {
	contextID := strings.TrimSpace(sys.getenv("DTZ_CONTEXT_ID"))
	counts := false
	for _, address := range addresses {
		source := s.Source(address)
		if source == session.FromLogin {
			continue
		}
		in := ""
		if contextID != "" && source != session.FromBoundFile {
			in, counts = ", in context "+oauth.Clean(contextID)+" (DTZ_CONTEXT_ID)", true
		}
		sys.warn(fmt.Sprintf("note: at %s the %s takes precedence over this login%s", address, source.Describe(), in))
	}
	if contextID != "" && !counts {
		sys.warn(fmt.Sprintf("note: DTZ_CONTEXT_ID is %s, but counts for credentials of the environment, not for a login", oauth.Clean(contextID)))
	}
}
