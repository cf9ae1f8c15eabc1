// Package doctor looks for what keeps Docker from getting a credential, from
// the ground up: the program and its environment, Docker's configuration, the
// keychain, the identity service, and then for each registry the login, what
// Docker asks, and what the registry says. It mends nothing.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/remote"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// World is what is looked at. Every field is needed.
type World struct {
	Lookup func(string) (string, bool) // environment variable
	GOOS   string                      // runtime.GOOS
	Now    func() time.Time

	Self    string // this program's file
	Version string // of this program

	Docker dockerconfig.File // Docker's config.json; the zero File without a home folder
	// Podman are the files that podman looks into before Docker's, in order.
	Podman []string
	// Session is a new one at each call: no two goroutines share a keychain.
	Session func() *session.Session
	// Registry asks a registry what it makes of a credential.
	Registry func(config.Address) (*remote.Registry, error)
}

// State is what came of a check.
type State string

const (
	OK      State = "ok"
	Warning State = "warning" // it works, and yet somebody should know
	Failed  State = "failed"
	// Skipped was not judged: an earlier failure is in the way, or it does not
	// matter here.
	Skipped State = "skipped"
)

// Finding is what one check saw, as doctor prints it in JSON.
type Finding struct {
	Check   string         `json:"check"`
	State   State          `json:"state"`
	Saw     string         `json:"saw"`
	Remedy  string         `json:"remedy,omitempty"`  // what mends it
	Address config.Address `json:"address,omitempty"` // of the registry that it is about; empty: about none

	behind string // the check whose failure was in the way
}

func ok(format string, args ...any) Finding {
	return Finding{State: OK, Saw: fmt.Sprintf(format, args...)}
}

func warning(remedy, format string, args ...any) Finding {
	return Finding{State: Warning, Remedy: remedy, Saw: fmt.Sprintf(format, args...)}
}

func failed(remedy, format string, args ...any) Finding {
	return Finding{State: Failed, Remedy: remedy, Saw: fmt.Sprintf(format, args...)}
}

// skipped is what does not matter here.
func skipped(why string) Finding {
	return Finding{State: Skipped, Saw: "not looked at: " + why}
}

// Options narrow down what is looked at. At most one is set.
type Options struct {
	Registry config.Address // this address only
	Profile  string         // this login and what it serves
}

// check is one thing to look at.
type check[Of any] struct {
	name  string
	needs []string // checks that have to hold for this one to say anything
	look  func(Of, context.Context) Finding
}

// failures are the checks that do not hold or could not be judged, each with the
// check whose fault that is: itself, or an earlier one.
type failures map[string]string

func (bad failures) has(check string) bool { return bad[check] != "" }

// before is what cannot be judged while a check does not hold.
func (bad failures) before(check string) Finding {
	f := skipped(bad[check] + " comes first")
	f.behind = bad[check]
	return f
}

// patience is how long one check may take.
const patience = 5 * time.Second

// perform makes the checks in order and notes in bad which of them do not hold.
func perform[Of any](ctx context.Context, checks []check[Of], of Of, bad failures) []Finding {
	found := make([]Finding, len(checks))
	for i, c := range checks {
		f := &found[i]
		if need := slices.IndexFunc(c.needs, bad.has); need >= 0 {
			*f = bad.before(c.needs[need])
		} else {
			ctx, cancel := context.WithTimeout(ctx, patience)
			*f = c.look(of, ctx)
			cancel()
		}
		f.Check = c.name
		switch {
		case f.behind != "":
			bad[c.name] = f.behind
		case f.State == Failed:
			bad[c.name] = c.name
		}
	}
	return found
}

// Examine makes every check: those of the machine; then, side by side, those
// of each identity service; then, side by side, those of each registry.
func Examine(ctx context.Context, w World, o Options) []Finding {
	m := &machine{World: w, options: o, session: w.Session()}
	bad := failures{}
	found := perform(ctx, machineChecks, m, bad)

	services := m.services(bad)
	found = append(found, inParallel(services, func(s *service) []Finding {
		return perform(ctx, serviceChecks, s, s.bad)
	})...)
	targets := m.targets
	if len(targets) == 0 { // the settings cannot be read: say what was not looked at
		targets = []*target{{machine: m, address: cmp.Or(o.Registry, platform.RegistryHost)}}
	}
	return append(found, inParallel(targets, func(t *target) []Finding {
		t.bad = maps.Clone(bad)
		for _, s := range services {
			if s.url == t.identity {
				maps.Copy(t.bad, s.bad)
			}
		}
		checks := targetChecks
		if t.address == "" {
			checks = loginChecks
		}
		list := perform(ctx, checks, t, t.bad)
		for i := range list {
			list[i].Address = t.address
		}
		return list
	})...)
}

// inParallel is what look finds in each of list, in the list's order.
func inParallel[Of any](list []Of, look func(Of) []Finding) []Finding {
	found := make([][]Finding, len(list))
	var wg sync.WaitGroup
	for i, of := range list {
		wg.Go(func() {
			defer crash.Guard()
			found[i] = look(of)
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}
