package tenant

import (
	"context"
	"errors"
	"fmt"
	"path"
	"reflect"
	"unsafe"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/docker/go-events"
)

// newApp makes the registry of the context id, which is canonical.
func newApp(config func() *configuration.Configuration, id string) (app *handlers.App, lasts bool, err error) {
	defer func() {
		if reason := recover(); reason != nil { // how NewApp reports a bad configuration
			app, err = nil, fmt.Errorf("configuration: %v", reason)
		}
	}()
	c := config()
	kind := c.Storage.Type()
	root, err := rootOf(c)
	if err != nil {
		return nil, false, err
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
	// An environment variable may have set what no file here can.
	c.Auth = nil
	c.Middleware = nil
	c.Proxy = configuration.Proxy{}
	c.Redis = configuration.Redis{}
	c.HTTP.Prefix = ""
	c.HTTP.Debug.Prometheus.Enabled = false // a second app would panic
	return handlers.NewApp(context.Background(), c), kind == "inmemory", nil
}

// rootOf is the folder, or the prefix, in which each context has a folder of its
// own.
func rootOf(c *configuration.Configuration) (string, error) {
	root, _ := c.Storage.Parameters()["rootdirectory"].(string)
	if c.Storage.Type() == "filesystem" && root == "" {
		return "", errors.New("configuration: the filesystem storage has no rootdirectory")
	}
	return root, nil
}

// end gives free what an app holds. Of all that, Shutdown leaves behind the
// goroutine of the app's event broadcaster, and would do so for ever, with some
// 10 KB (distribution v3.1.2, configureEvents); only its unexported field leads
// there. A test fails if distribution moves it: then there is a leak again,
// and no more. What does stay is a record of each endpoint under
// registry.notifications, and with ignore its goroutine, for each app.
func end(app *handlers.App) {
	_ = app.Shutdown() // its only error is of pull-through caches
	sink := reflect.ValueOf(app).Elem().FieldByName("events").FieldByName("sink")
	if !sink.IsValid() || sink.Type() != reflect.TypeFor[events.Sink]() {
		return
	}
	broadcaster := *(*events.Sink)(unsafe.Pointer(sink.UnsafeAddr()))
	_ = broadcaster.Close() // it never fails
}
