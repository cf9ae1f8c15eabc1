package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

func (sys system) newLogout() *cobra.Command {
	var profile string
	var all bool
	cmd := &cobra.Command{
		Use:        "logout",
		SuggestFor: []string{"signout"},
		Short:      "Forget a login, here and at the identity service",
		Long: `Forget a login: its secret, and the API key that login --keep made for it, which
is deleted at the identity service. Docker goes on asking for its registries, and
is told how to log in again; unconfigure ends that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.logout(cmd.Context(), profile, all) },
	}
	cmd.Flags().StringVar(&profile, "profile", config.DefaultProfile, "`name` of the login")
	cmd.Flags().BoolVar(&all, "all", false, "forget every login")
	exclusive(cmd, "profile", "all")
	completeNothing(cmd, "profile")
	return cmd
}

func (sys system) logout(ctx context.Context, profile string, all bool) error {
	s := sys.session(patienceForPeople)
	var places []config.Login
	if all {
		var err error
		if places, err = s.Places(); err != nil {
			return fmt.Errorf("logging out: %w", err)
		}
		if len(places) == 0 {
			sys.say("Not logged in; nothing to forget.")
		}
	} else {
		place, err := s.Pick(profile)
		var e *session.Error
		switch {
		case errors.As(err, &e) && e.Outcome == session.NotLoggedIn:
			return sys.nothingToForget(s, profile)
		case err != nil:
			return fmt.Errorf("logging out: %w", err)
		}
		places = []config.Login{place}
	}
	var left []config.Address // that were served until now
	failed := false           // each is said by itself: one must not hide the next
	for _, place := range places {
		served := s.Served(place)
		done := sys.waitBriefly(ctx, "Logging out")
		login, err := s.SignOut(ctx, place)
		done()
		_, unrevoked := errors.AsType[*session.UnrevokedError](err)
		switch {
		case err == nil:
			deleted := ""
			if login != nil && login.Method == store.KeptKey {
				deleted = fmt.Sprintf(" The API key %q was deleted there.", oauth.Clean(login.Alias))
			}
			sys.say("Logged out of %s, profile %s.%s", place.Identity, place.Profile, deleted)
			left = append(left, served...)
		case unrevoked:
			failed = true
			sys.complain(fmt.Errorf("logged out of %s here, but %w", place.Identity, err))
		default:
			failed = true
			sys.complain(fmt.Errorf("logging out of %s, profile %s: %w", place.Identity, place.Profile, err))
		}
	}
	sys.sayStillWired(left)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed:
		return exitError(exitFailure)
	}
	return nil
}

// sayStillWired says where Docker goes on asking for what nobody is logged in
// for.
func (sys system) sayStillWired(addresses []config.Address) {
	wired := sys.wired()
	addresses = slices.DeleteFunc(addresses, func(a config.Address) bool { return !wired[string(a)] })
	if len(addresses) == 0 {
		return
	}
	flags := session.RegistryFlags(addresses)
	if flags == "" { // unconfigure would mean all
		flags = " --registry " + platform.RegistryHost
	}
	sys.say("Docker still asks this helper for %s. To take that back: %s unconfigure%s", join(addresses), program, flags)
}

// nothingToForget says so, unless somebody is logged in under another name and
// might believe that this was it.
func (sys system) nothingToForget(s *session.Session, profile string) error {
	places, err := s.Places()
	if err != nil {
		return fmt.Errorf("logging out: %w", err)
	}
	if len(places) == 0 {
		sys.say("Not logged in; nothing to forget.")
		return nil
	}
	var others []string
	for _, place := range places {
		others = append(others, place.Profile)
	}
	return withHint(
		fmt.Errorf("logging out: not logged in as profile %s, but as %s", profile, strings.Join(slices.Compact(slices.Sorted(slices.Values(others))), " and ")),
		"use --profile or --all")
}
