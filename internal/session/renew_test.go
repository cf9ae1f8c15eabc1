package session

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

func TestStageOf(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		age      time.Duration // negative: the clock was turned back
		want     stage
	}{
		{"a day's token, just received", day, 0, young},
		{"a day's token, an hour less a second old", day, time.Hour - time.Second, young},
		{"a day's token, an hour old", day, time.Hour, aging},
		{"a day's token, six minutes before its end", day, day - 6*time.Minute, aging},
		{"a day's token, less than six minutes before its end", day, day - 6*time.Minute + time.Second, urgent},
		{"a day's token, a second before its end", day, day - time.Second, urgent},
		{"a day's token, at its end", day, day, useless},
		{"a day's token, a year later", day, 365 * day, useless},
		{"two hours' token, a quarter less a second old", 2 * time.Hour, 30*time.Minute - time.Second, young},
		{"two hours' token, a quarter old", 2 * time.Hour, 30 * time.Minute, aging},
		{"ten minutes' token, half its life left", 10 * time.Minute, 5 * time.Minute, aging},
		{"ten minutes' token, less than half its life left", 10 * time.Minute, 5*time.Minute + time.Second, urgent},
		{"20 seconds' token, 4 s old", 20 * time.Second, 4 * time.Second, young},
		{"20 seconds' token, 5 s old", 20 * time.Second, 5 * time.Second, aging},
		{"20 seconds' token, 10 s old", 20 * time.Second, 10 * time.Second, aging},
		{"20 seconds' token, 11 s old", 20 * time.Second, 11 * time.Second, urgent},
		{"20 seconds' token, 20 s old", 20 * time.Second, 20 * time.Second, useless},
		{"one second's token, just received", time.Second, 0, young},
		{"a token from the future by a second", day, -time.Second, aging},
		{"a token from the future by a year", day, -365 * day, aging},
		{"a token without a life", 0, 0, useless},
	} {
		token := store.Token{Access: "t", Received: monday, Lifetime: tt.lifetime}
		if got := stageOf(token, monday.Add(tt.age)); got != tt.want {
			t.Errorf("%s: stage %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := stageOf(store.Token{}, monday); got != useless {
		t.Errorf("no token: stage %d, want %d", got, useless)
	}
}

// at is a time of the first week, Monday being day 0.
func at(day, hour, minute int) time.Time {
	return monday.AddDate(0, 0, day).Add(time.Duration(hour-9)*time.Hour + time.Duration(minute)*time.Minute)
}

func TestLoginLastsFromDayToDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.set(at(0, 17, 55))
	w.mustGet(registry, work)
	w.set(at(1, 9, 5))
	wantNotes(t, w.mustGet(registry, work))
	if got := w.exchanges(); got != 2 {
		t.Errorf("%d exchanges for two gets of an old token, want 2", got)
	}
	w.set(at(1, 10, 4))
	w.mustGet(registry, work)
	if got := w.exchanges(); got != 2 {
		t.Errorf("a token of 59 minutes was renewed")
	}
}

func TestWeekendEndsALoginUnlessAKeyIsKept(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		w := newWorld(t)
		if keep {
			w.loginKeep(registry)
		} else {
			w.login(registry)
		}
		w.set(at(0, 17, 0))
		w.mustGet(registry, work)
		for day := 1; day <= 4; day++ {
			w.set(at(day, 9, 30))
			w.mustGet(registry, work)
			w.set(at(day, 16, 0))
			w.mustGet(registry, work)
		}
		w.set(at(7, 16, 30)) // Monday; the token of Friday 16:00 ended on Saturday
		if keep {
			wantNotes(t, w.mustGet(registry, work))
			continue
		}
		before := w.exchanges()
		_, err := w.get(registry)
		wantError(t, err, Expired, `cr.dtz.rocks: login expired 2 days ago; run "docker-credential-dtz login --insecure-storage"`)
		if got := w.exchanges() - before; got != 0 {
			t.Errorf("%d exchanges of a token that has ended, want none", got)
		}
	}
}

// Four weeks of office hours, Monday to Friday, with a get at odd times between
// 9 and 18, at most two hours apart.
func TestFourWeeksOfOfficeHours(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		login      func(*world)
		wantLogins int
	}{
		{"with a password", func(w *world) { w.login(registry) }, 4},
		{"with a kept key", func(w *world) { w.loginKeep(registry) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, random, logins := newWorld(t), rand.New(rand.NewPCG(2026, 11)), 1
			tt.login(w)
			for day := range 4 * 7 {
				if day%7 >= 5 {
					continue
				}
				for when := at(day, 9, 0); when.Before(at(day, 18, 0)); when = when.Add(time.Duration(random.IntN(120)) * time.Minute) {
					w.set(when.Add(time.Second * time.Duration(random.IntN(60))))
					if _, err := w.get(registry); err != nil {
						if day%7 != 0 {
							t.Errorf("a login was needed on day %d at %s: %v", day, w.Now().Format(time.TimeOnly), err)
						}
						logins++
						tt.login(w)
					}
				}
			}
			if logins != tt.wantLogins {
				t.Errorf("%d logins in four weeks, want %d", logins, tt.wantLogins)
			}
		})
	}
}

func TestTokensOfTwentySeconds(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, 20*time.Second)
	w.login(registry)
	first := w.mustGet(registry, work).Secret
	for range 10 {
		w.advance(19 * time.Second)
		wantNotes(t, w.mustGet(registry, work))
	}
	if w.mustGet(registry, work).Secret == first {
		t.Error("the first token is still handed out after its end")
	}
	// The rest after a failure is longer than such a token's life, and ends
	// with the next renewal.
	w.advance(6 * time.Second)
	w.breakWith(answers(http.StatusForbidden, "no"))
	w.mustGet(registry, work)
	w.breakWith(works)
	w.advance(5 * time.Second)
	urgent := w.mustGet(registry, work).Secret
	w.advance(6 * time.Second)
	if w.mustGet(registry, work).Secret == urgent {
		t.Error("an aging token was not renewed after the renewal before had worked")
	}

	w.advance(25 * time.Second)
	_, err := w.get(registry)
	wantError(t, err, Expired, `cr.dtz.rocks: login expired 5 seconds ago; run "docker-credential-dtz login --insecure-storage"`)
}
