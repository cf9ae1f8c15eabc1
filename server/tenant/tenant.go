// Package tenant keeps a container registry for each context, apart from all
// others: a distribution app with a storage root, a cache and uploads of its
// own. One app behind rewritten paths would not do: its cross-repository mounts
// and its cache hand a blob of one context to whoever knows its digest.
package tenant

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

const (
	defaultMaxLive = 200
	defaultIdle    = 10 * time.Minute
	// overload is how many times MaxLive apps live at the most.
	overload = 5
)

// errBusy is returned where one more app would be too many.
var errBusy = errors.New("too many contexts have requests at the moment")

// Apps makes the registry of a context when it is first asked for, keeps it
// while it is used, and ends it then: images and uploads lie in the storage,
// where the context's next app finds them. (Those of the inmemory storage lie in
// the app, so it never ends.) Its methods may be called at the same time.
type Apps struct {
	// MaxLive is how many apps live when no request is under way; the one that
	// has been idle longest makes room. One with a request is never ended: while
	// more contexts have requests, more apps live, up to five times as many;
	// then requests of a further context are answered with 503. 0 means 200. One
	// takes some 0.2 MB when it is new; its cache may hold 10,000 descriptors.
	MaxLive int
	// Idle is how long an app lives without a request. 0 means 10 minutes.
	Idle time.Duration

	config func() *configuration.Configuration

	rootMu sync.Mutex
	root   driver.StorageDriver // see storage

	mu      sync.Mutex
	apps    map[string]*app // by canonical context id
	lasting int             // of them, those that never end
	evicted int
}

// An app is the registry of one context. The fields behind ready are set before
// it is closed; Apps' mu guards the others.
type app struct {
	ready chan struct{}
	serve *handlers.App
	lasts bool // as its images do not, without it
	err   error

	requests int // under way
	used     time.Time
	idle     *time.Timer // runs while there is no request
}

// New returns registries with distribution's configuration. Config returns a
// new one at each call, with nothing in it that another one shares: an app
// changes its configuration. In it, authorization, middleware, pulling through
// and upload purging are switched off, deletion is switched on, the storage root
// becomes the context's part of it, the cache becomes the app's own, and no
// request is redirected to a presigned URL, which would go round the
// verification in front.
func New(config func() *configuration.Configuration) *Apps {
	secret := rand.Text()
	withSecret := func() *configuration.Configuration {
		c := config()
		// Else each app has a secret of its own, and its uploads end with it.
		c.HTTP.Secret = cmp.Or(c.HTTP.Secret, secret)
		return c
	}
	return &Apps{config: withSecret, apps: make(map[string]*app)}
}

// Check makes an app, ends it and returns an error if that does not work, so
// that a bad configuration is found before the first request.
func (a *Apps) Check() error {
	app, _, err := newApp(a.config, "context-check")
	if err == nil {
		end(app)
	}
	return err
}

// App is the registry of a context, in either spelling of its id.
func (a *Apps) App(contextID string) (http.Handler, error) {
	id, err := CanonicalID(contextID)
	if err != nil {
		return nil, err
	}
	app, err := a.acquire(id) // tells whether it can be made
	if err != nil {
		return nil, err
	}
	a.release(id, app)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(id, w, r) }), nil
}

// ServeHTTP answers a request that [registry.Handler] has let through with the
// registry of the caller's context.
func (a *Apps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	profile, ok := registry.ProfileFrom(r.Context())
	if !ok {
		(&registry.Error{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: "authentication required"}).ServeHTTP(w, r)
		return
	}
	id, err := CanonicalID(profile.Context)
	if err != nil {
		(&registry.Error{Status: http.StatusForbidden, Code: "DENIED", Message: "the token's scope is " + err.Error()}).ServeHTTP(w, r)
		return
	}
	a.serve(id, w, r)
}

// serve answers with the app of a canonical id.
func (a *Apps) serve(id string, w http.ResponseWriter, r *http.Request) {
	app, err := a.acquire(id)
	if errors.Is(err, errBusy) {
		(&registry.Error{Status: http.StatusServiceUnavailable, Code: "UNAVAILABLE", Message: err.Error() + "; try again", RetryAfter: time.Second}).ServeHTTP(w, r)
		return
	}
	if err != nil {
		log().ErrorContext(r.Context(), "registry not available", "context", id, "error", err)
		(&registry.Error{Status: http.StatusInternalServerError, Code: "UNKNOWN", Message: "the registry of " + id + " is not available"}).ServeHTTP(w, r)
		return
	}
	defer a.release(id, app)
	app.serve.ServeHTTP(w, r)
}

// acquire is the context's app, which does not end before it is released. Who
// comes while it is being made waits for it; nobody else does.
func (a *Apps) acquire(id string) (*app, error) {
	a.mu.Lock()
	found, ok := a.apps[id]
	if !ok {
		a.makeRoom(a.maxLive() - 1)
		if len(a.apps)-a.lasting >= overload*a.maxLive() {
			a.mu.Unlock()
			return nil, errBusy
		}
		found = &app{ready: make(chan struct{})}
		a.apps[id] = found
	}
	found.requests++
	if found.idle != nil {
		found.idle.Stop()
	}
	a.mu.Unlock()
	if !ok {
		a.make(id, found)
	}
	<-found.ready
	if found.err != nil {
		return nil, fmt.Errorf("registry of %s: %w", id, found.err)
	}
	return found, nil
}

// make completes an app for those who wait for it.
func (a *Apps) make(id string, app *app) {
	app.serve, app.lasts, app.err = newApp(a.config, id)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case app.err != nil: // the next request tries again
		delete(a.apps, id)
	case app.lasts:
		a.lasting++
	}
	close(app.ready)
}

func (a *Apps) release(id string, app *app) {
	a.mu.Lock()
	defer a.mu.Unlock()
	app.requests--
	app.used = time.Now()
	if app.requests > 0 || app.lasts {
		return
	}
	if app.idle == nil {
		app.idle = time.AfterFunc(a.idleTime(), func() { a.retire(id, app) })
	} else {
		app.idle.Reset(a.idleTime())
	}
	a.makeRoom(a.maxLive())
}

func (a *Apps) maxLive() int { return cmp.Or(a.MaxLive, defaultMaxLive) }

func (a *Apps) idleTime() time.Duration { return cmp.Or(a.Idle, defaultIdle) }

// retire ends an app when it has been idle, unless a request came first.
func (a *Apps) retire(id string, app *app) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if app.requests == 0 && a.apps[id] == app && time.Since(app.used) >= a.idleTime() {
		a.evict(id)
	}
}

// makeRoom ends idle apps, longest first, until no more than limit live. The
// caller holds a.mu.
func (a *Apps) makeRoom(limit int) {
	for len(a.apps) > limit {
		longest := ""
		for id, app := range a.apps {
			if app.requests == 0 && !app.lasts && (longest == "" || app.used.Before(a.apps[longest].used)) {
				longest = id
			}
		}
		if longest == "" {
			return
		}
		a.evict(longest)
	}
}

// evict ends an app that has no request. The caller holds a.mu.
func (a *Apps) evict(id string) {
	app := a.apps[id]
	delete(a.apps, id)
	a.evicted++
	app.idle.Stop()
	// Apart, because it waits for events to be delivered, to an endpoint that
	// may be away.
	go end(app.serve)
}

// Stats is how many apps live, and how many have been ended since the start to
// make room or because they were idle.
func (a *Apps) Stats() (live, evicted int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.apps), a.evicted
}
