package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

type tokenOptions struct {
	header   bool
	registry string
	context  string
	profile  string
}

func (sys system) newToken() *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a fresh token",
		Long: `Print a fresh token, from the environment or from the login, as Docker would get
it. With --header it does not have to appear on a command line, where every
user of the machine could read it.`,
		Example: `  docker-credential-dtz token --header | curl -H @- https://identity.dtz.rocks/api/2021-02-21/context`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return sys.token(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.header, "header", false, "print it as the HTTP header Authorization")
	f.StringVar(&o.registry, "registry", "", "the registry that it is for, `host[:port]` (default: "+platform.RegistryHost+", or that of the only login)")
	f.StringVar(&o.context, "context", "", "`id` of the context that it is for (default: the registry's or the login's)")
	f.StringVar(&o.profile, "profile", "", "`name` of the login that it is from, whatever the environment says")
	exclusive(cmd, "registry", "profile")
	completeNothing(cmd, "registry", "context", "profile")
	return cmd
}

func (sys system) token(ctx context.Context, o tokenOptions) error {
	limit, note := sys.timeout()
	if note != "" {
		sys.warn(note)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := sys.waitBriefly(ctx, waitingForIdentity)
	cred, err := sys.tokenFor(ctx, sys.session(patienceForDocker), o)
	done()
	if err != nil {
		return fmt.Errorf("no token: %w", err)
	}
	sys.trace("the token is from the %s", cred.Source.Describe())
	for _, note := range cred.Notes {
		sys.warn(note)
	}
	if o.header {
		_, err = fmt.Fprintln(sys.stdout, "Authorization: Bearer "+cred.Secret.Reveal())
	} else {
		_, err = fmt.Fprintln(sys.stdout, cred.Secret.Reveal())
	}
	return err
}

func (sys system) tokenFor(ctx context.Context, s *session.Session, o tokenOptions) (*session.Credential, error) {
	if o.profile != "" {
		place, err := s.Pick(o.profile)
		if err != nil {
			return nil, err
		}
		return s.Login(ctx, place, o.context)
	}
	name := o.registry
	if name == "" {
		name = platform.RegistryHost
		if s.Source(platform.RegistryHost) == "" { // then from the only login there is
			if places, err := s.Places(); err == nil && len(places) == 1 {
				return s.Login(ctx, places[0], o.context)
			}
		}
	}
	addresses, err := parseRegistries([]string{name})
	if err != nil {
		return nil, err
	}
	return s.Credential(ctx, session.Request{Address: addresses[0], Context: o.context, TokenOnly: true})
}
