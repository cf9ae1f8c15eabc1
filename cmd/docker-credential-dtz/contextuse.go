package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

type contextUseOptions struct {
	context     string
	registries  []string
	toDefault   bool
	profile     string
	yes         bool
	noConfigure bool
}

func (sys system) newContextUse() *cobra.Command {
	var o contextUseOptions
	cmd := &cobra.Command{
		Use:   "use [ID]",
		Short: "Choose the context of a login, or of one registry",
		Long: `Make ID the default context of the login: that of every registry that it serves
and that has none of its own.

With --registry, make ID that registry's own context and leave the others alone:
the registry is bound to it, and Docker is set up to ask for it. ` + platform.RegistryHost + `
without a port stands for all its ports that have no binding of their own.

A token for the context is obtained first: a context that you may not use is
refused, and nothing changes.

--default gives a registry back to its login's default context.`,
		Example: `  docker-credential-dtz context use context-abc12345
  docker-credential-dtz context use context-def12345 --registry cr.dtz.rocks:3214
  docker-credential-dtz context use --default --registry cr.dtz.rocks:3214`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.context = args[0]
			}
			return sys.contextUse(cmd.Context(), o, len(args) > 0)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 || o.toDefault {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return sys.completeContext(cmd.Context(), o), cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.registries, "registry", nil, "registry to bind to the context, `host[:port]`; repeatable")
	f.BoolVar(&o.toDefault, "default", false, "give the registries back to their login's default context")
	f.StringVar(&o.profile, "profile", "", "`name` of the login (default: the one that serves the registry, or "+config.DefaultProfile+")")
	f.BoolVarP(&o.yes, "yes", "y", false, "serve registries other than "+platform.RegistryHost+" without asking")
	f.BoolVar(&o.noConfigure, "no-configure", false, "leave Docker's config.json alone")
	exclusive(cmd, "default", "profile")
	completeNothing(cmd, "registry", "profile")
	return cmd
}

// completeContext offers the contexts that are known without a network.
func (sys system) completeContext(ctx context.Context, o contextUseOptions) []string {
	addresses, err := parseRegistries(o.registries)
	if err != nil {
		return nil
	}
	s := sys.session(patienceForDocker)
	place, err := sys.contextLogin(s, o.profile, addresses)
	if err != nil {
		return nil
	}
	return s.KnownContexts(ctx, place)
}

func (sys system) contextUse(ctx context.Context, o contextUseOptions, named bool) error {
	switch {
	case o.toDefault && named:
		return usagef("--default and a context's id contradict each other")
	case o.toDefault && len(o.registries) == 0:
		return usagef("--default gives a registry back to its login's default context: name it with --registry")
	case !o.toDefault && !named:
		return &hintError{usagef("which context?"), session.Run(program + " context list")}
	case named && !oauth.IsContextID(o.context):
		// Not quoted: it may be an API key that was pasted here.
		return &hintError{usagef("that is no context's id, such as context-abc12345"), session.Run(program + " context list")}
	}
	addresses, err := parseRegistries(o.registries)
	if err != nil {
		return err
	}
	s := sys.session(patienceForPeople)
	if o.toDefault {
		return sys.useDefault(ctx, s, addresses)
	}
	doing := "using context " + o.context
	place, err := sys.contextLogin(s, o.profile, addresses)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := sys.agree(ctx, s, place, addresses, o.yes); err != nil {
		return err
	}
	done := sys.waitBriefly(ctx, "Asking for a token in "+o.context)
	login, err := s.UseContext(ctx, place, o.context, addresses)
	done()
	if err != nil {
		return sys.explainContext(ctx, s, place, o.context, fmt.Errorf("%s: %w", doing, err))
	}
	contextID := login.Token(o.context).Context // in the service's spelling
	if len(addresses) == 0 {
		sys.say("The default context of profile %s is now %s%s.", place.Profile, contextID, sys.roleNoteIn(login, contextID))
		sys.warnOfRole(place, login, contextID)
		sys.sayWhoIsWhere(s, place, login, nil)
		sys.notePrecedence(s, s.Served(place))
		if o.noConfigure {
			return nil
		}
		return sys.configureAgain(ctx, s, place)
	}
	of := ""
	if place.Profile != config.DefaultProfile {
		of = " of profile " + place.Profile
	}
	sys.say("%s: now in context %s%s%s.", inWords(addresses), contextID, of, sys.roleNoteIn(login, contextID))
	sys.warnOfRole(place, login, contextID)
	sys.sayWhoIsWhere(s, place, login, addresses)
	if o.noConfigure {
		sys.say("Docker's config.json was left alone. Next: %s configure --registry %s", program, addresses[0])
	} else if _, err := sys.configureDocker(ctx, s, addresses); err != nil {
		return fmt.Errorf("the context was changed, but %w", err)
	} else {
		sys.say("Docker uses it for %s. Next: docker push %s/IMAGE", join(addresses), addresses[0])
	}
	sys.notePrecedence(s, addresses)
	return nil
}

// configureAgain asks the registries for which Docker asks us where the images
// of the new default context lie: they may have an address of their own.
func (sys system) configureAgain(ctx context.Context, s *session.Session, place config.Login) error {
	wired, own := sys.wired(), s.OwnContexts(place)
	addresses := slices.DeleteFunc(s.Served(place), func(a config.Address) bool { return own[a] != "" || !wired[string(a)] })
	if len(addresses) == 0 {
		return nil
	}
	if _, err := sys.configureDocker(ctx, s, addresses); err != nil {
		return fmt.Errorf("the context was changed, but %w", err)
	}
	return nil
}

// sayWhoIsWhere says which context each registry of the login is in, but of
// those that have just been said.
func (sys system) sayWhoIsWhere(s *session.Session, place config.Login, login *store.Login, said []config.Address) {
	own := s.OwnContexts(place)
	var inDefault []string
	for _, address := range s.Served(place) {
		switch {
		case slices.Contains(said, address):
		case own[address] == "":
			inDefault = append(inDefault, inWords([]config.Address{address}))
		case platform.SameContext(own[address], login.Context):
			inDefault = append(inDefault, inWords([]config.Address{address})+" (its own)")
		}
	}
	switch {
	case len(inDefault) > 0:
		sys.say("In the default context, %s: %s.", oauth.Clean(login.Context), strings.Join(inDefault, ", "))
	case len(said) == 0 && len(own) > 0:
		sys.say("No registry is in it: each has its own.")
	}
	sys.sayOwnContexts(login, own, said)
}

// sayOwnContexts names the registries that stay in another context than the
// login's default, and those contexts that the login's newest token does not
// count among its owner's.
func (sys system) sayOwnContexts(login *store.Login, own map[config.Address]string, said []config.Address) {
	claims, _ := oauth.ParseClaims(login.Newest().Access.Reveal())
	for _, address := range slices.Sorted(maps.Keys(own)) {
		id := own[address]
		if slices.Contains(said, address) || platform.SameContext(id, login.Context) {
			continue
		}
		isID := func(other string) bool { return platform.SameContext(other, id) }
		lost := ""
		if len(claims.Contexts) > 0 && !slices.ContainsFunc(claims.Contexts, isID) {
			lost = ", which is none of yours"
		}
		sys.say("%s stays in its own context, %s%s. To change that: %s context use --default --registry %s", inWords([]config.Address{address}), oauth.Clean(id), lost, program, address)
	}
}

func (sys system) useDefault(ctx context.Context, s *session.Session, addresses []config.Address) error {
	if err := s.UseDefault(ctx, addresses); err != nil {
		return fmt.Errorf("giving registries back to their login's context: %w", err)
	}
	for _, address := range addresses {
		sys.say("%s is in its login's default context again%s.", address, sys.defaultOf(ctx, s, address))
	}
	sys.notePrecedence(s, addresses)
	return nil
}

// defaultOf is the context of the login that serves the address, as far as it
// can be read.
func (sys system) defaultOf(ctx context.Context, s *session.Session, address config.Address) styled {
	place, found, err := s.ServedBy([]config.Address{address})
	if err != nil || !found {
		return ""
	}
	if login := s.Peek(ctx, place); login != nil {
		return styled(", "+oauth.Clean(login.Context)) + sys.roleNoteIn(login, login.Context)
	}
	return ""
}

// roleNoteIn says whether the registry's role is there, where that is known.
func (sys system) roleNoteIn(login *store.Login, contextID string) styled {
	switch has := roleIn(login, contextID, sys.now()); {
	case has == nil:
		return ""
	case *has:
		return ", with the registry's role"
	}
	return styled(", " + sys.styleFor(sys.stderr).warn("without the registry's role"))
}

// warnOfRole says what to do where the registry's role is known to be missing.
func (sys system) warnOfRole(place config.Login, login *store.Login, contextID string) {
	if has := roleIn(login, contextID, sys.now()); has != nil && !*has {
		sys.warn("warning: " + roleAdvice(place, login, contextID))
	}
}

// explainContext finds out whether a refused context was a slip of the hand.
// What was meant is suggested, never taken.
func (sys system) explainContext(ctx context.Context, s *session.Session, place config.Login, contextID string, err error) error {
	var e *session.Error
	if !errors.As(err, &e) || e.Outcome != session.Refused {
		return err
	}
	ids, failed := s.Contexts(ctx, place)
	if failed != nil || slices.ContainsFunc(ids, func(id string) bool { return platform.SameContext(id, contextID) }) {
		return err
	}
	err = fmt.Errorf("%s is none of your contexts; nothing was changed", contextID)
	if similar := similarContexts(ids, contextID); len(similar) > 0 {
		return withHint(err, "did you mean %s?", strings.Join(similar, " or "))
	}
	return withHint(err, "%s", e.Remedy)
}

// similarContexts are those of which contextID is the beginning, or the other
// way round.
func similarContexts(ids []string, contextID string) []string {
	typed, _ := platform.ContextID(strings.ToLower(contextID))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		canonical, _ := platform.ContextID(strings.ToLower(id))
		return !strings.HasPrefix(canonical, typed) && !strings.HasPrefix(typed, canonical)
	})
}
