package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// A token's life is reckoned from its receipt by one clock, this machine's, so
// that a clock which is wrong all the time is not noticed. One that has been set
// since the receipt (a board that starts in 1970 and asks the network for the
// time, a virtual machine that wakes up) makes that reckoning wrong by as much.
// Then there is the end that the token itself names by the service's clock, exp:
// it is right if this machine's clock is right now. Where the two differ, nobody
// here can tell, and the identity service is asked.

// clockStep is how far a clock is set before it is worth mentioning.
const clockStep = time.Minute

// ends is when t ends by this machine's clock. A receipt that is still to come
// says that the clock has been set back since: then t ends no later than it says
// itself, and never later than one that comes now.
func ends(t store.Token, now time.Time) time.Time {
	end := t.Expires()
	if !setBack(t, now) {
		return end
	}
	if exp := ownEnd(t); !exp.IsZero() && exp.Before(end) {
		end = exp
	}
	if anew := now.Add(t.Lifetime); anew.Before(end) {
		end = anew
	}
	return end
}

// setBack reports whether the clock has been set back, by more than a trifle,
// since t was received.
func setBack(t store.Token, now time.Time) bool { return now.Before(t.Received.Add(-clockStep)) }

// ownEnd is exp of t, the zero time if it has none.
func ownEnd(t store.Token) time.Time {
	claims, err := oauth.ParseClaims(t.Access.Reveal())
	if err != nil {
		return time.Time{}
	}
	return claims.Expires
}

// fate says to people when t ends, which is valid as far as is known here.
func fate(t store.Token, now time.Time) string {
	switch exp := ownEnd(t); {
	case setBack(t, now):
		return fmt.Sprintf("came before this machine's clock was set back by %s", InWords(t.Received.Sub(now)))
	case !exp.IsZero() && !now.Before(exp):
		return "may have ended"
	}
	return "ends in " + InWords(ends(t, now).Sub(now))
}

// isValid reports whether t has not ended, as far as is known here.
func isValid(t store.Token, now time.Time) bool { return t.Access != "" && now.Before(ends(t, now)) }

// lastEnd is the later of the two ends of t: before it the identity service may
// take t.
func lastEnd(t store.Token) time.Time {
	if exp := ownEnd(t); exp.After(t.Expires()) {
		return exp
	}
	return t.Expires()
}

// exchangeable is the token of the login that the identity service most likely
// takes in exchange for one of contextID, and whether it may take it at all. Any
// will do, but one of another context may be of a context that the identity has
// lost.
func exchangeable(login *store.Login, contextID string, now time.Time) (store.Token, bool) {
	if own := login.Token(contextID); isValid(own, now) {
		return own, true
	}
	var best store.Token
	for _, t := range slices.Backward(login.Tokens) { // the newest stands last
		switch {
		case best.Access == "",
			isValid(t, now) && (!isValid(best, now) || ends(t, now).After(ends(best, now))),
			!isValid(best, now) && lastEnd(t).After(lastEnd(best)):
			best = t
		}
	}
	return best, best.Access != "" && (isValid(best, now) || now.Before(lastEnd(best)))
}
