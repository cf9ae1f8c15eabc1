package tenant

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
)

// Where distribution keeps things below a context's root.
const (
	repositoriesPath = "/docker/registry/v2/repositories"
	blobsPath        = "/docker/registry/v2/blobs"
)

const (
	// purgeAfter is how long an upload may take.
	purgeAfter = 7 * 24 * time.Hour
	// purgeInterval is how often uploads that have taken longer are looked for.
	purgeInterval = 24 * time.Hour
)

// storage is that of all contexts. It is opened once: an object store would ask
// for credentials, and connect, anew each time.
func (a *Apps) storage(ctx context.Context) (driver.StorageDriver, error) {
	a.rootMu.Lock()
	defer a.rootMu.Unlock()
	if a.root != nil {
		return a.root, nil
	}
	root, err := a.open(context.WithoutCancel(ctx), "") // which outlives the caller's
	if err == nil {
		a.root = root
	}
	return root, err
}

// open is the storage of a context, or of all of them for an empty id.
func (a *Apps) open(ctx context.Context, id string) (driver.StorageDriver, error) {
	c := a.config()
	root, err := rootOf(c)
	if err != nil {
		return nil, err
	}
	parameters := c.Storage.Parameters()
	if parameters == nil {
		parameters = map[string]any{}
	}
	parameters["rootdirectory"] = path.Join(root, id)
	return factory.Create(ctx, c.Storage.Type(), parameters)
}

// Contexts are the ids of the contexts that have anything in the storage.
func (a *Apps) Contexts(ctx context.Context) ([]string, error) {
	root, err := a.storage(ctx)
	if err != nil {
		return nil, err
	}
	names, err := root.List(ctx, "/")
	if isNotFound(err) {
		return nil, nil
	}
	var ids []string
	for _, name := range names {
		if id, err := CanonicalID(path.Base(name)); err == nil && id == path.Base(name) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Ready returns nil when the storage answers.
func (a *Apps) Ready(ctx context.Context) error {
	root, err := a.storage(ctx)
	if err != nil {
		return err
	}
	_, err = root.Stat(ctx, "/")
	if isNotFound(err) && a.config().Storage.Type() != "filesystem" { // an empty bucket has no root; Lock makes a folder
		err = nil
	}
	return err
}

// RunPurge purges abandoned uploads at once and then daily until ctx ends: one
// walk through the storage after another, where each app would have a purger of
// its own, and contexts without an app none. Nothing is purged where the storage
// is only read: garbage may be collected at the same time.
func (a *Apps) RunPurge(ctx context.Context) {
	if isReadOnly(a.config().Storage) {
		return
	}
	for {
		n, err := a.PurgeUploads(ctx, time.Now().Add(-purgeAfter))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log().WarnContext(ctx, "some abandoned uploads cannot be purged", "purged", n, "error", err)
		case n > 0:
			log().InfoContext(ctx, "abandoned uploads purged", "purged", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(purgeInterval - rand.N(purgeInterval/8)): // replicas do not keep step
		}
	}
}

// isReadOnly reports whether storage.maintenance.readonly is on.
func isReadOnly(s configuration.Storage) bool {
	readOnly, _ := s["maintenance"]["readonly"].(map[any]any)
	return readOnly["enabled"] == true
}

// PurgeUploads deletes, in every context, the uploads that began before a time,
// and returns how many. It goes on where one context cannot be purged.
func (a *Apps) PurgeUploads(ctx context.Context, before time.Time) (purged int, err error) {
	ids, err := a.Contexts(ctx)
	errs := []error{err}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		d, err := a.open(ctx, id)
		if err == nil {
			_, err = d.Stat(ctx, repositoriesPath)
		}
		if isNotFound(err) {
			continue // nothing has been pushed yet
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		deleted, failures := storage.PurgeUploads(ctx, d, before, true)
		purged += len(deleted)
		for _, err := range failures {
			if !isNotFound(err) { // another replica was faster
				errs = append(errs, fmt.Errorf("%s: %w", id, err))
			}
		}
	}
	return purged, errors.Join(errs...)
}

// Collected is what [Apps.Collect] has freed.
type Collected struct {
	Manifests int // that no tag or index referred to
	Blobs     int // those of manifests included
	Bytes     int64
}

// Collect deletes from a context's storage the blobs that no manifest of it
// refers to, and with untagged the manifests, too, that no tag or index refers
// to. An upload or push that is under way may lose its blobs, so none must be:
// distribution does not lock. A live app may take blobs that are gone for there,
// as its cache remembers them, so none must live. With dryRun it deletes nothing
// and returns what it would. With an error it returns what it had freed before.
func (a *Apps) Collect(ctx context.Context, contextID string, untagged, dryRun bool) (Collected, error) {
	id, err := CanonicalID(contextID)
	if err != nil {
		return Collected{}, err
	}
	d, err := a.open(ctx, id)
	if err != nil {
		return Collected{}, err
	}
	for _, path := range []string{repositoriesPath, blobsPath} {
		if _, err := d.Stat(ctx, path); err != nil {
			if isNotFound(err) {
				err = nil // nothing has been pushed yet
			}
			return Collected{}, err
		}
	}
	counted := &sweep{StorageDriver: d, dryRun: dryRun}
	namespace, err := storage.NewRegistry(ctx, d, storage.EnableDelete)
	if err != nil {
		return Collected{}, err
	}
	// Its own dry run prints all that it sees and counts no bytes.
	err = storage.MarkAndSweep(ctx, counted, namespace, storage.GCOpts{RemoveUntagged: untagged, Quiet: true})
	return counted.freed, err
}

// A sweep counts what is deleted, which with dryRun nothing is.
type sweep struct {
	driver.StorageDriver
	dryRun bool
	freed  Collected
}

func (s *sweep) Delete(ctx context.Context, path string) error {
	var freed Collected
	switch {
	case strings.HasPrefix(path, blobsPath+"/"):
		freed.Blobs = 1
		if data, err := s.Stat(ctx, path+"/data"); err == nil {
			freed.Bytes = data.Size()
		}
	case strings.Contains(path, "/_manifests/revisions/"):
		freed.Manifests = 1
	}
	if !s.dryRun {
		if err := s.StorageDriver.Delete(ctx, path); err != nil {
			return err
		}
	}
	s.freed.Manifests += freed.Manifests
	s.freed.Blobs += freed.Blobs
	s.freed.Bytes += freed.Bytes
	return nil
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[driver.PathNotFoundError](err)
	return ok
}
