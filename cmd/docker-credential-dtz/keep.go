package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// undone is an error and what went wrong when what it left behind was taken
// back, if anything did, on one line.
func undone(err, undoing error) error {
	if undoing == nil {
		return err
	}
	return fmt.Errorf("%w; and %w", err, undoing)
}

// outlive is a context that ends so long after ctx.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return late, func() { stop(); cancel() }
}

// keepKey has an API key made for this machine and proves it. A key that is not
// kept in the end is deleted again.
func (sys system) keepKey(ctx context.Context, client *oauth.Client, username string, got oauth.Token) (made, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	alias := program + " on " + host
	// A request that is broken off may make a key all the same, which nobody
	// could delete then: only its maker is told what it is.
	patient, cancel := outlive(ctx, 3*time.Second)
	defer cancel()
	key, err := client.CreateKey(patient, got.Access, got.Claims.Context, alias)
	if answer, ok := errors.AsType[*oauth.Error](err); ok {
		switch {
		case answer.Refused():
			return made{}, withHint(err, "log in without --keep, or ask an administrator of the context")
		case mayHaveDone(answer):
			err = undone(err, &session.UnrevokedError{Alias: alias})
		}
	}
	if err != nil {
		return made{}, err
	}
	undo := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		if err := client.DeleteKey(ctx, got.Access, key); err != nil {
			return &session.UnrevokedError{Alias: alias, Err: err}
		}
		return nil
	}
	proof, err := client.APIKey(ctx, key, got.Claims.Context)
	if err != nil {
		return made{}, undone(err, undo())
	}
	return made{login: session.FromKey(store.KeptKey, username, key, alias, proof), undo: undo}, nil
}

// mayHaveDone reports whether the identity service may have done what it was
// asked, though it does not say so: the answer was lost, is not one, or comes from
// a gateway that did not wait for it.
func mayHaveDone(answer *oauth.Error) bool {
	return !answer.Unconnected && (answer.Err != nil || answer.Status/100 == 2 || answer.Status >= 500)
}
