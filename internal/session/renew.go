package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// The renewal rule. A token serves unquestioned while it is young. Older, it is
// renewed when asked for, so that a login in use never ends, but not at the
// price of a slow build: while enough of its life is left, a renewal that does
// not come at once is given up.
const (
	youngFor    = time.Hour       // and for at most a quarter of the token's life
	enoughLeft  = 6 * time.Minute // or half the token's life, if that is less; BuildKit keeps an answer for 4 min 50 s
	quickTry    = 2 * time.Second // what a renewal may take while enough is left
	restAfter   = time.Minute     // after a failed one, while enough is left
	patientLock = 5 * time.Second // for another process, while a valid token is at hand
	burst       = time.Second     // processes that start within it share a failure: compose starts one for each image
)

type stage int

const (
	young   stage = iota // hand it out
	aging                // try to renew it; failing, hand it out
	urgent               // renew it; failing, hand it out with a warning
	useless              // ended, or none: renew it or fail
)

func stageOf(t store.Token, now time.Time) stage {
	age, left := now.Sub(t.Received), ends(t, now).Sub(now)
	switch {
	case !isValid(t, now):
		return useless
	case age >= 0 && age < min(youngFor, t.Lifetime/4): // a negative age: the clock was set back
		return young
	case left >= min(enoughLeft, t.Lifetime/2):
		return aging
	default:
		return urgent
	}
}

// renewable is a credential whose tokens end.
type renewable struct {
	slot store.Slot // whose turn it is
	// failures is where it is noted how the last renewal failed. The contexts
	// of a login have one each: one can be refused where others are not.
	failures store.Slot
	// load returns the token at hand, the zero Token if there is none. Its
	// errors are *Error.
	load func(context.Context) (store.Token, error)
	// renew makes one exchange of what load has returned, and keeps the result.
	// Both are called with the slot held. Its errors are *Error, or *unsavedError together with a token.
	renew func(context.Context) (store.Token, error)
}

// unsavedError says that a renewal worked and could not be kept.
type unsavedError struct{ err error }

func (e *unsavedError) Error() string { return "the new token could not be saved: " + e.err.Error() }
func (e *unsavedError) Unwrap() error { return e.err }

// token applies the renewal rule. The note, if any, is for a person.
func (s *Session) token(ctx context.Context, r renewable) (t store.Token, note string, err error) {
	asked := s.Now()
	t, err = r.load(ctx)
	if err != nil {
		return store.Token{}, "", err
	}
	at := stageOf(t, asked)
	switch at {
	case young:
		return t, "", nil
	case aging:
		if f, failed := r.failures.Failure(); failed && within(asked.Sub(f.At), restAfter) {
			return t, "", nil
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quickTry)
		defer cancel()
	}

	renewed, err := s.renewOnce(ctx, r, asked, at)
	if errors.Is(err, store.ErrNotFound) { // logged out since
		return store.Token{}, "", err
	}
	now := s.Now()
	if isValid(renewed, now) {
		if err != nil {
			note = err.Error()
		}
		return renewed, note, nil
	}
	if !isValid(t, now) {
		return store.Token{}, "", err
	}
	if e := (*Error)(nil); at == urgent || setBack(t, now) || errors.As(err, &e) && e.Outcome == Refused {
		note = fmt.Sprintf("the token %s and was not renewed: %v", fate(t, now), err)
	}
	return t, note, nil
}

// renewOnce renews, or takes what another process's renewal ended in since, or
// a moment before, asked: one exchange for all, its failure included.
func (s *Session) renewOnce(ctx context.Context, r renewable, asked time.Time, at stage) (t store.Token, err error) {
	shared := func() (store.Failure, bool) {
		f, failed := r.failures.Failure()
		if at == useless && f.Kind == string(unsaved) {
			return f, false // it served one process, and there is nothing to serve this one with
		}
		// One from the future was noted by a clock that has been set right since.
		return f, failed && f.At.After(asked.Add(-burst)) && !f.At.After(s.Now())
	}
	patience := remaining(ctx)
	if at != useless {
		patience = min(patience, patientLock)
	}
	lockCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen := r.failures.Renewed()
	unlock, err := r.slot.Lock(lockCtx, func() bool {
		_, failed := shared()
		return failed || r.failures.Renewed() != seen
	})
	if f, failed := shared(); failed {
		if err == nil {
			unlock()
		}
		return store.Token{}, fromFailure(f)
	}
	if errors.Is(err, store.ErrGaveUp) {
		// Two hundred who have waited read it at the same time, not in turn.
		if t, err = r.load(ctx); err != nil || stageOf(t, s.Now()) == young {
			return t, err
		}
		unlock, err = r.slot.Lock(lockCtx, nil)
	}
	if e := waited(err); e != nil {
		return store.Token{}, e
	}
	if err != nil { // the disk cannot be written, or knows no locks: better a renewal too many than none
		return r.renew(ctx)
	}
	defer endTurn(unlock, &err)

	t, err = r.load(ctx)
	if err != nil {
		return store.Token{}, err
	}
	if stageOf(t, s.Now()) == young {
		return t, nil
	}
	t, err = r.renew(ctx)
	if err != nil {
		_ = r.failures.SetFailure(s.asFailure(err)) // lost, it costs the next process one more try
		return t, err
	}
	r.failures.ClearFailure()
	r.failures.SetRenewed(s.Now())
	return t, nil
}

// leaveTime ends ctx early enough to write down what came of an exchange, and
// for those who wait to read it.
func leaveTime(ctx context.Context) (context.Context, context.CancelFunc) {
	left := remaining(ctx)
	return context.WithTimeout(ctx, left-min(left/10, time.Second))
}

// remaining is how long ctx has left; a minute, if it has no deadline.
func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return time.Minute
}

func within(d, limit time.Duration) bool { return d >= 0 && d < limit }

// ago is a time past, as people say it.
func ago(d time.Duration) string { return InWords(d) + " ago" }

// InWords is a duration as people say it, in its largest unit.
func InWords(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if d >= 2*unit.length { // 24 hours say more than 1 day
			return fmt.Sprintf("%d %ss", d.Round(unit.length)/unit.length, unit.name)
		}
	}
	if s := int(max(d, 0) / time.Second); s != 1 {
		return fmt.Sprintf("%d seconds", s)
	}
	return "1 second"
}
