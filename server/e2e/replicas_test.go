package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// buildWithClouds builds dtz-registry with the drivers of object stores, and
// without the race detector, with which those take minutes.
var buildWithClouds = sync.OnceValues(func() (program string, err error) {
	dir := filepath.Join(bin, "clouds")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return filepath.Join(dir, "dtz-registry"), goBuild("..", dir, "./cmd/dtz-registry")
})

func inStore(s *testenv.ObjectStore) map[string]any {
	return map[string]any{
		"http": map[string]any{"secret": rand.Text()}, // signs the state of an upload, for all replicas
		"storage": map[string]any{"s3": map[string]any{
			"regionendpoint": s.URL, "region": s.Region, "bucket": s.Bucket, "forcepathstyle": true,
			"accesskey": s.AccessKey, "secretkey": s.SecretKey,
		}},
	}
}

// An upload goes on wherever a load balancer sends it, also when the replica
// dies that began it.
func TestReplicasShareAnUpload(t *testing.T) {
	store := testenv.S3(t)
	t.Parallel()
	program, err := buildWithClouds()
	if err != nil {
		t.Fatal(err)
	}
	p := startPlatform(t)
	config := p.serveConfig(t, nil, inStore(store))
	a, b := startServe(t, program, config), startServe(t, program, config)
	mine := map[string]string{"X-API-KEY": p.APIKey}
	theirs := map[string]string{"X-API-KEY": p.APIKey, "X-DTZ-CONTEXT": p.Contexts[1]}

	blob := make([]byte, 6<<20) // more than the least that S3 takes as a part, 5 MiB
	if _, err := rand.Read(blob); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(blob)
	digest := "sha256:" + hex.EncodeToString(sum[:])

	header, _ := a.ask(http.StatusAccepted, http.MethodPost, "/v2/shared/blobs/uploads/", mine, nil)
	sent := 0
	patch := func(r *replica, end int) {
		t.Helper()
		h := map[string]string{"X-API-KEY": p.APIKey, "Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("%d-%d", sent, end-1)}
		header, _ = r.ask(http.StatusAccepted, http.MethodPatch, location(t, header), h, blob[sent:end])
		sent = end
	}
	patch(b, 5<<20+1)
	patch(a, 5<<20+100)
	b.ask(http.StatusNotFound, http.MethodGet, location(t, header), theirs, nil)
	a.kill()
	patch(b, len(blob))
	b.ask(http.StatusCreated, http.MethodPut, location(t, header)+"&digest="+url.QueryEscape(digest), mine, nil)

	a = startServe(t, program, config)
	for _, r := range []*replica{a, b} {
		if _, got := r.ask(http.StatusOK, http.MethodGet, "/v2/shared/blobs/"+digest, mine, nil); !bytes.Equal(got, blob) {
			t.Errorf("a replica has %d bytes under %s, want the %d that were pushed", len(got), digest, len(blob))
		}
		r.ask(http.StatusNotFound, http.MethodGet, "/v2/shared/blobs/"+digest, theirs, nil)
	}

	// The other context, from the other side: what it pushes at one replica it
	// pulls at the other, and nobody else does.
	m := newMachine(t)
	p.Registry = b.addr
	m.login(p, "--context", p.Contexts[1])
	m.run("crane", "push", image(t), b.addr+"/theirs")
	a.ask(http.StatusOK, http.MethodGet, "/v2/theirs/manifests/latest", theirs, nil)
	a.ask(http.StatusNotFound, http.MethodGet, "/v2/theirs/manifests/latest", mine, nil)
	b.ask(http.StatusNotFound, http.MethodGet, "/v2/theirs/manifests/latest", mine, nil)

	objects := objectsOf(t, store)
	for _, of := range []struct{ context, repository, others string }{
		{p.Contexts[0], "/shared/", "/theirs/"},
		{p.Contexts[1], "/theirs/", "/shared/"},
	} {
		below := strings.Join(objects[of.context], "\n")
		if !strings.Contains(below, of.repository) || strings.Contains(below, of.others) {
			t.Errorf("in the bucket, %s has\n%s\nwant %s, and nothing of %s", of.context, below, of.repository, of.others)
		}
		delete(objects, of.context)
	}
	if len(objects) > 0 {
		t.Errorf("objects of no context: %v", objects)
	}
}

// location is the path and query of a Location, without the replica's address.
func location(t *testing.T, header http.Header) string {
	t.Helper()
	u, err := url.Parse(header.Get("Location"))
	if err != nil || u.Path == "" {
		t.Fatalf("no Location in %v", header)
	}
	return u.RequestURI()
}

// objectsOf is the names of all objects, by their first folder.
func objectsOf(t *testing.T, store *testenv.ObjectStore) map[string][]string {
	t.Helper()
	objects := map[string][]string{}
	err := filepath.WalkDir(store.Folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(store.Folder, path)
		if first, rest, found := strings.Cut(filepath.ToSlash(name), "/"); found {
			objects[first] = append(objects[first], "/"+rest)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
