// Package tenant keeps a container registry for each context, apart from all
// others: a distribution app with a storage root, a cache and uploads of its
// own. One app behind rewritten paths would not do: its cross-repository mounts
// and its cache hand a blob of one context to whoever knows its digest.
package tenant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// Apps makes the registry of a context when it is first asked for, and keeps
// it. Its methods may be called at the same time.
type Apps struct {
	config func() *configuration.Configuration

	mu   sync.Mutex
	apps map[string]http.Handler // by canonical context id
}

// New returns registries with distribution's configuration. Config returns a
// new one at each call, with nothing in it that another one shares: an app
// changes its configuration. In it, authorization and upload purging are
// switched off, deletion is switched on, the storage root becomes the context's
// part of it, the cache becomes the app's own, and no request is redirected to
// a presigned URL, which would go round the verification in front.
func New(config func() *configuration.Configuration) *Apps {
	return &Apps{config: config, apps: make(map[string]http.Handler)}
}

// App is the registry of a context, in either spelling of its id.
func (a *Apps) App(contextID string) (http.Handler, error) {
	id, err := CanonicalID(contextID)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if app, found := a.apps[id]; found {
		return app, nil
	}
	app, err := newApp(a.config(), id)
	if err != nil {
		return nil, fmt.Errorf("registry of %s: %w", id, err)
	}
	a.apps[id] = app
	return app, nil
}

// ServeHTTP answers a request that [registry.Handler] has let through with the
// registry of the caller's context.
func (a *Apps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	profile, ok := registry.ProfileFrom(r.Context())
	if !ok {
		(&registry.Error{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: "authentication required"}).ServeHTTP(w, r)
		return
	}
	app, err := a.App(profile.Context)
	switch {
	case errors.Is(err, errNoContextID):
		(&registry.Error{Status: http.StatusForbidden, Code: "DENIED", Message: err.Error()}).ServeHTTP(w, r)
	case err != nil:
		log().ErrorContext(r.Context(), "registry not available", "context", profile.Context, "error", err)
		(&registry.Error{Status: http.StatusInternalServerError, Code: "UNKNOWN", Message: "the registry of " + profile.Context + " is not available"}).ServeHTTP(w, r)
	default:
		app.ServeHTTP(w, r)
	}
}

// newApp makes the registry of the context id, which is canonical.
func newApp(c *configuration.Configuration, id string) (app http.Handler, err error) {
	defer func() {
		if reason := recover(); reason != nil { // how NewApp reports a bad configuration
			app, err = nil, fmt.Errorf("configuration: %v", reason)
		}
	}()
	kind := c.Storage.Type()
	root, _ := c.Storage.Parameters()["rootdirectory"].(string)
	if kind == "filesystem" && root == "" {
		return nil, errors.New("configuration: the filesystem storage has no rootdirectory")
	}
	set := func(section, name string, value any) {
		if c.Storage[section] == nil {
			c.Storage[section] = configuration.Parameters{}
		}
		c.Storage[section][name] = value
	}
	set(kind, "rootdirectory", path.Join(root, id))
	set("cache", "blobdescriptor", "inmemory") // another kind is shared between apps
	set("delete", "enabled", true)
	set("redirect", "disable", true)
	// Each purger would be a goroutine that walks the storage.
	set("maintenance", "uploadpurging", map[any]any{"enabled": false})
	c.Auth = nil
	c.HTTP.Debug.Prometheus.Enabled = false // a second app would panic
	return handlers.NewApp(context.Background(), c), nil
}

// CountRepositories is the number of repositories in a context's catalogue.
func (a *Apps) CountRepositories(ctx context.Context, contextID string) (int, error) {
	app, err := a.App(contextID)
	if err != nil {
		return 0, err
	}
	for count, last := 0, ""; ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v2/_catalog?last="+url.QueryEscape(last), nil)
		if err != nil {
			return 0, err
		}
		w := answer{header: http.Header{}}
		app.ServeHTTP(&w, r)
		var page struct{ Repositories []string }
		if w.status != http.StatusOK || json.Unmarshal(w.body, &page) != nil {
			return 0, fmt.Errorf("reading the catalogue: %d %s", w.status, http.StatusText(w.status))
		}
		n := len(page.Repositories)
		count += n
		if n == 0 || w.header.Get("Link") == "" { // the last page (distribution specification, "Listing Repositories")
			return count, nil
		}
		last = page.Repositories[n-1]
	}
}

// answer is an [http.ResponseWriter] that keeps what is written.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}
