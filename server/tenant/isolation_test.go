package tenant_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// What is in another context is answered as what is nowhere, to the letter: an
// answer that differs would tell who has what.
func TestElsewhereIsNowhere(t *testing.T) {
	tests := []struct {
		name    string
		storage func() configuration.Storage
		maxLive int
	}{
		{"in a folder", inFolder(t.TempDir()), 0},
		{"in a folder, with an app that has just been made", inFolder(t.TempDir()), 1},
		{"in memory", inMemory, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			apps := tenant.New(withStorage(tt.storage))
			apps.MaxLive = tt.maxLive
			testElsewhereIsNowhere(t, apps)
		})
	}
}

func testElsewhereIsNowhere(t *testing.T, apps *tenant.Apps) {
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	blob, absent := []byte("secret sauce"), []byte("nowhere else") // as long
	us.push("app", blob)
	them.push("other", []byte("something else"))
	upload := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	noUpload := us.want(http.StatusAccepted, "POST", "/v2/abc/blobs/uploads/", nil).Get("Location")
	us.want(http.StatusNoContent, "DELETE", noUpload, nil)
	own := [2]string{}
	for i := range own {
		own[i] = them.want(http.StatusAccepted, "POST", "/v2/other/blobs/uploads/", nil).Get("Location")
	}
	_, state, _ := strings.Cut(upload, "?")
	_, noState, _ := strings.Cut(noUpload, "?")
	id := func(location string) string {
		location, _, _ = strings.Cut(location, "?")
		return location[strings.LastIndexByte(location, '/')+1:]
	}

	// The words in capitals stand for what is in our context, or is nowhere.
	ours := strings.NewReplacer("BLOB", digestOf(blob), "MANIFEST", digestOf(image(blob)), "REPOSITORY", "app", "UPLOAD", id(upload), "STATE", state, "OWN", id(own[0]))
	nowhere := strings.NewReplacer("BLOB", digestOf(absent), "MANIFEST", digestOf(image(absent)), "REPOSITORY", "abc", "UPLOAD", id(noUpload), "STATE", noState, "OWN", id(own[1]))
	names := strings.NewReplacer(
		id(own[0]), "OWN", id(own[1]), "OWN",
		digestOf(blob), "BLOB", digestOf(image(blob)), "MANIFEST", id(upload), "UPLOAD", state, "STATE", "app", "REPOSITORY",
		digestOf(absent), "BLOB", digestOf(image(absent)), "MANIFEST", id(noUpload), "UPLOAD", noState, "STATE", "abc", "REPOSITORY",
	)
	requests := []struct {
		name, method, path string
		body               string
		header             []string
	}{
		{"the blob", "GET", "/v2/REPOSITORY/blobs/BLOB", "", nil},
		{"whether the blob is there", "HEAD", "/v2/REPOSITORY/blobs/BLOB", "", nil},
		{"a part of the blob", "GET", "/v2/REPOSITORY/blobs/BLOB", "", []string{"Range: bytes=0-3"}},
		{"the blob, unless it is known", "GET", "/v2/REPOSITORY/blobs/BLOB", "", []string{`If-None-Match: "BLOB"`}},
		{"the blob in a repository of theirs", "GET", "/v2/other/blobs/BLOB", "", nil},
		{"the manifest by its tag", "GET", "/v2/REPOSITORY/manifests/v1", "", nil},
		{"the manifest by its digest", "GET", "/v2/REPOSITORY/manifests/MANIFEST", "", nil},
		{"the manifest in a repository of theirs", "GET", "/v2/other/manifests/MANIFEST", "", nil},
		{"the manifest, unless it is known", "GET", "/v2/other/manifests/MANIFEST", "", []string{`If-None-Match: "MANIFEST"`}},
		{"whether the manifest is there", "HEAD", "/v2/REPOSITORY/manifests/MANIFEST", "", nil},
		{"the catalogue from the repository on", "GET", "/v2/_catalog?n=1&last=REPOSITORY", "", nil},
		{"the tags", "GET", "/v2/REPOSITORY/tags/list", "", nil},
		{"the state of the upload", "GET", "/v2/REPOSITORY/blobs/uploads/UPLOAD?STATE", "", nil},
		{"a chunk for the upload", "PATCH", "/v2/REPOSITORY/blobs/uploads/UPLOAD?STATE", "x", nil},
		{"the end of the upload", "PUT", "/v2/REPOSITORY/blobs/uploads/UPLOAD?STATE&digest=BLOB", "x", nil},
		{"cancelling the upload", "DELETE", "/v2/REPOSITORY/blobs/uploads/UPLOAD?STATE", "", nil},
		{"a chunk for an upload of theirs with our state", "PATCH", "/v2/other/blobs/uploads/OWN?STATE", "x", nil},
		{"deleting the blob", "DELETE", "/v2/REPOSITORY/blobs/BLOB", "", nil},
		{"deleting the manifest", "DELETE", "/v2/REPOSITORY/manifests/MANIFEST", "", nil},
		{"deleting the tag", "DELETE", "/v2/REPOSITORY/manifests/v1", "", nil},
		{"a manifest that refers to the blob", "PUT", "/v2/other/manifests/v2", string(image(blob)), []string{"Content-Type: " + manifestType}},
		{"referrers", "GET", "/v2/REPOSITORY/referrers/MANIFEST", "", nil},
	}
	for _, tt := range requests {
		answer := func(r *strings.Replacer) string {
			var header []string
			for _, line := range tt.header {
				header = append(header, r.Replace(line))
			}
			body := tt.body
			if r == nowhere {
				body = strings.ReplaceAll(body, string(image(blob)), string(image(absent)))
			}
			us.want(http.StatusOK, "GET", "/v2/", nil) // which ends their app where there is room for one
			status, text, h := them.do(tt.method, r.Replace(tt.path), []byte(body), header...)
			text = strings.ReplaceAll(text, digestOf(absent), digestOf(blob))
			return names.Replace(http.StatusText(status) + "\n" + text + "\n" + h.Get("Etag") + h.Get("Docker-Content-Digest") + h.Get("Location") + h.Get("Link") + h.Get("Content-Length"))
		}
		if got, want := answer(ours), answer(nowhere); got != want {
			t.Errorf("%s: what is elsewhere is answered\n%s\nwhat is nowhere\n%s", tt.name, got, want)
		}
	}

	for _, answer := range []string{"/v2/_catalog", "/v2/_catalog?n=2&last="} {
		if _, text, _ := them.do("GET", answer, nil); text != `{"repositories":["other"]}`+"\n" {
			t.Errorf("their %s is %s, want only their repository", answer, text)
		}
	}

	// A mount that does not find its blob begins an upload. Another context's
	// repository is not found, in the form either, however it is written.
	for _, from := range []string{"app", mine + "/app", "../" + mine + "/app", "%2e%2e%2f" + mine + "%2fapp", "other"} {
		them.want(http.StatusAccepted, "POST", "/v2/other/blobs/uploads/?mount="+digestOf(blob)+"&from="+from, nil)
		them.want(http.StatusAccepted, "POST", "/v2/other/blobs/uploads/", []byte("mount="+digestOf(blob)+"&from="+from), "Content-Type: application/x-www-form-urlencoded")
	}
	us.want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)
	us.want(http.StatusNoContent, "GET", upload, nil)
}
