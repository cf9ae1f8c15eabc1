package tenant_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func TestContextsAreThoseWithAFolder(t *testing.T) {
	dir := t.TempDir()
	apps := tenant.New(withStorage(inFolder(filepath.Join(dir, "not there yet"))))
	if ids, err := apps.Contexts(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("where nothing has been pushed: %v, %v, want none", ids, err)
	}
	apps = tenant.New(withStorage(inFolder(dir)))
	newClient(t, apps, mine).push("app", []byte("x"))
	newClient(t, apps, theirs).push("app", []byte("x"))
	for _, name := range []string{"lost+found", "context-UPPER", "identity-abc12345", "abc12345"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := apps.Contexts(t.Context())
	slices.Sort(ids)
	if want := []string{mine, theirs}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("contexts are %v, %v, want %v", ids, err, want)
	}
}

func TestAbandonedUploadsArePurged(t *testing.T) {
	dir := t.TempDir()
	apps := tenant.New(withStorage(inFolder(dir)))
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	us.push("app", []byte("kept"))
	old := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	theirOld := them.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	for _, id := range []string{mine, theirs} {
		backdate(t, filepath.Join(dir, id), time.Now().Add(-8*24*time.Hour))
	}
	recent := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")

	// Another process, in which no context has an app.
	n, err := tenant.New(withStorage(inFolder(dir))).PurgeUploads(t.Context(), time.Now().Add(-7*24*time.Hour))
	if n != 2 || err != nil {
		t.Errorf("purged %d, %v, want 2", n, err)
	}
	us.want(http.StatusNotFound, "GET", old, nil)
	them.want(http.StatusNotFound, "GET", theirOld, nil)
	us.want(http.StatusNoContent, "GET", recent, nil)
	us.want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)
}

// backdate lets a context's uploads have begun at a time.
func backdate(t *testing.T, dir string, began time.Time) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "docker/registry/v2/repositories/*/_uploads/*/startedat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %d uploads", err, len(files))
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte(began.UTC().Format(time.RFC3339)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPurgeRunsAtOnceAndDaily(t *testing.T) {
	dir := t.TempDir()
	apps := tenant.New(withStorage(inFolder(dir)))
	upload := func(id string) {
		newClient(t, apps, id).want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil)
	}
	left := func() int {
		folders, err := filepath.Glob(filepath.Join(dir, "*/docker/registry/v2/repositories/*/_uploads/*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(folders)
	}
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of a bubble's time
	upload(theirs)
	backdate(t, filepath.Join(dir, theirs), start.Add(-6*24*time.Hour))
	upload(mine)
	backdate(t, filepath.Join(dir, mine), start.Add(-8*24*time.Hour))
	synctest.Test(t, func(t *testing.T) {
		go apps.RunPurge(t.Context())
		synctest.Wait()
		if n := left(); n != 1 {
			t.Errorf("%d uploads are left at the start, want the one of six days", n)
		}
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		if n := left(); n != 1 {
			t.Errorf("%d uploads are left before it has had seven days, want 1", n)
		}
		time.Sleep(28 * time.Hour)
		synctest.Wait()
		if n := left(); n != 0 {
			t.Errorf("%d uploads are left after eight days, want none", n)
		}
	})
}

// Who collects garbage beside servers has them only read.
func TestNothingIsPurgedWhereStorageIsOnlyRead(t *testing.T) {
	dir := t.TempDir()
	us := newClient(t, tenant.New(withStorage(inFolder(dir))), mine)
	upload := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	backdate(t, filepath.Join(dir, mine), time.Now().Add(-8*24*time.Hour))
	config := withStorage(inFolder(dir))
	tenant.New(func() *configuration.Configuration {
		c := config()
		c.Storage["maintenance"] = configuration.Parameters{"readonly": map[any]any{"enabled": true}}
		return c
	}).RunPurge(t.Context()) // returns, instead of waiting for tomorrow
	us.want(http.StatusNoContent, "GET", upload, nil)
}

func TestOneBrokenContextStopsNoOtherPurge(t *testing.T) {
	dir := t.TempDir()
	apps := tenant.New(withStorage(inFolder(dir)))
	us := newClient(t, apps, mine)
	us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil)
	backdate(t, filepath.Join(dir, mine), time.Now().Add(-8*24*time.Hour))
	broken := filepath.Join(dir, "context-broken01", "docker")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "registry"), nil, 0o600); err != nil { // a file for a folder
		t.Fatal(err)
	}
	n, err := apps.PurgeUploads(t.Context(), time.Now())
	if n != 1 || err == nil || !strings.Contains(err.Error(), "context-broken01: ") {
		t.Errorf("purged %d, %v, want 1 and an error that names the other context", n, err)
	}
}

func TestCollectDeletesWhatNobodyRefersTo(t *testing.T) {
	config := withStorage(inFolder(t.TempDir()))
	apps := tenant.New(config)
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	gone, kept := []byte("of an image that is gone"), []byte("kept")
	us.push("app", gone)
	us.push("other", kept)
	them.push("app", gone)
	us.want(http.StatusAccepted, "DELETE", "/v2/app/manifests/"+digestOf(image(gone)), nil)

	collect := func(untagged, dryRun bool) tenant.Collected {
		t.Helper()
		freed, err := apps.Collect(t.Context(), mine, untagged, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		return freed
	}
	would := collect(false, true)
	freed, err := apps.Collect(t.Context(), mine, false, false)
	if would != freed {
		t.Errorf("freed %+v after a dry run had promised %+v", freed, would)
	}
	if want := (tenant.Collected{Blobs: 2, Bytes: int64(len(gone) + len(image(gone)))}); freed != want || err != nil {
		t.Errorf("freed %+v, %v, want %+v: a manifest and its layer", freed, err, want)
	}
	// An app of before still remembers what was there.
	us = newClient(t, tenant.New(config), mine)
	us.want(http.StatusNotFound, "GET", "/v2/app/blobs/"+digestOf(gone), nil)
	us.want(http.StatusOK, "GET", "/v2/other/manifests/v1", nil)
	us.want(http.StatusOK, "GET", "/v2/other/blobs/"+digestOf(kept), nil)
	them.want(http.StatusOK, "GET", "/v2/app/blobs/"+digestOf(gone), nil)

	// Moving a tag leaves a manifest without one.
	us.push("other", []byte("newer"))
	if freed := collect(false, false); freed != (tenant.Collected{}) {
		t.Errorf("freed %+v, want nothing: the manifest can be had by its digest", freed)
	}
	want := tenant.Collected{Manifests: 1, Blobs: 2, Bytes: int64(len(kept) + len(image(kept)))}
	for _, dryRun := range []bool{true, false} {
		if freed := collect(true, dryRun); freed != want {
			t.Errorf("freed %+v, want %+v: the manifest without a tag and its layer", freed, want)
		}
	}
	if freed := collect(true, false); freed != (tenant.Collected{}) {
		t.Errorf("freed %+v the second time, want nothing", freed)
	}
	newClient(t, tenant.New(config), mine).want(http.StatusOK, "GET", "/v2/other/manifests/v1", nil)
}

// The images of an index have no tags of their own.
func TestCollectKeepsWhatAnIndexRefersTo(t *testing.T) {
	config := withStorage(inFolder(t.TempDir()))
	us := newClient(t, tenant.New(config), mine)
	blob := []byte("for one platform")
	us.push("app", blob)
	const indexType = "application/vnd.oci.image.index.v1+json"
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s","size":%d,"digest":"%s","platform":{"architecture":"amd64","os":"linux"}}]}`,
		indexType, manifestType, len(image(blob)), digestOf(image(blob)))
	us.want(http.StatusCreated, "PUT", "/v2/app/manifests/all", index, "Content-Type: "+indexType)
	us.want(http.StatusAccepted, "DELETE", "/v2/app/manifests/v1", nil) // the tag
	if freed, err := tenant.New(config).Collect(t.Context(), mine, true, false); freed != (tenant.Collected{}) || err != nil {
		t.Errorf("freed %+v, %v, want nothing", freed, err)
	}
	us = newClient(t, tenant.New(config), mine)
	us.want(http.StatusOK, "GET", "/v2/app/manifests/"+digestOf(image(blob)), nil)
	us.want(http.StatusOK, "GET", "/v2/app/blobs/"+digestOf(blob), nil)
}

func TestCollectWhereNothingIs(t *testing.T) {
	apps := tenant.New(withStorage(inFolder(t.TempDir())))
	if freed, err := apps.Collect(t.Context(), mine, true, false); freed != (tenant.Collected{}) || err != nil {
		t.Errorf("freed %+v, %v, want nothing and no error", freed, err)
	}
	newClient(t, apps, mine).want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil)
	if freed, err := apps.Collect(t.Context(), mine, true, false); freed != (tenant.Collected{}) || err != nil {
		t.Errorf("of an upload that is not finished: freed %+v, %v, want nothing and no error", freed, err)
	}
	if _, err := apps.Collect(t.Context(), "../elsewhere", true, false); err == nil {
		t.Error("a path is taken for a context")
	}
}

func TestReadyAsksTheStorage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	apps := tenant.New(withStorage(inFolder(dir)))
	unlock, err := apps.Lock(false) // as a server does
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }() // the test has ended
	if err := apps.Ready(t.Context()); err != nil {
		t.Errorf("before the first push: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := apps.Ready(t.Context()); err == nil {
		t.Error("a storage that has been taken away is ready")
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apps = tenant.New(withStorage(inFolder(filepath.Join(dir, "below a file"))))
	if err := apps.Ready(t.Context()); err == nil {
		t.Error("a storage that cannot be is ready")
	}
}

func TestLockKeepsCollectorAndServersApart(t *testing.T) {
	config := withStorage(inFolder(filepath.Join(t.TempDir(), "images")))
	lock := func(exclusive bool) (func() error, error) { return tenant.New(config).Lock(exclusive) }
	first, err := lock(false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := lock(false)
	if err != nil {
		t.Fatalf("a second server: %v", err)
	}
	if _, err := lock(true); !errors.Is(err, tenant.ErrInUse) {
		t.Errorf("a collector beside servers: %v, want %v", err, tenant.ErrInUse)
	}
	if err := errors.Join(first(), second()); err != nil {
		t.Fatal(err)
	}
	collector, err := lock(true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(false); !errors.Is(err, tenant.ErrInUse) {
		t.Errorf("a server beside a collector: %v, want %v", err, tenant.ErrInUse)
	}
	if err := collector(); err != nil {
		t.Fatal(err)
	}
	if ids, err := tenant.New(config).Contexts(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("the lock is taken for a context: %v, %v", ids, err)
	}
}
