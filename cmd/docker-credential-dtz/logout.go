package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

func (sys system) newLogout() *cobra.Command {
	var profile string
	var all bool
	cmd := &cobra.Command{
		Use:        "logout",
		SuggestFor: []string{"signout"},
		Short:      "Forget a login, here and at the identity service",
		Long: `Forget a login: its secret, the addresses that it serves, and the API key that
login --keep made for it, which is deleted at the identity service.`,
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
	failed := false // each is said by itself: one must not hide the next
	for _, place := range places {
		done := sys.waitBriefly(ctx, "Logging out")
		err := s.SignOut(ctx, place)
		done()
		_, unrevoked := errors.AsType[*session.UnrevokedError](err)
		switch {
		case err == nil:
			sys.say("Logged out of %s, profile %s.", place.Identity, place.Profile)
		case unrevoked:
			failed = true
			sys.complain(fmt.Errorf("logged out of %s here, but %w", place.Identity, err))
		default:
			failed = true
			sys.complain(fmt.Errorf("logging out of %s, profile %s: %w", place.Identity, place.Profile, err))
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed:
		return exitError(exitFailure)
	}
	return nil
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
		fmt.Errorf("logging out: not logged in as profile %s, but as %s", profile, strings.Join(others, " and ")),
		"use --profile or --all")
}
