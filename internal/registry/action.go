package registry

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// An Action is what a request does to its context's registry.
type Action string

const (
	ActionPull   Action = "pull"
	ActionPush   Action = "push"
	ActionDelete Action = "delete"
	// ActionAdmin is whatever the OCI distribution specification does not
	// know, so that nobody can tell what it does.
	ActionAdmin Action = "admin"
)

// An access is what a request needs.
type access struct {
	repository string   // "" is none
	actions    []Action // all of them; none for the base of the API, /v2/
}

// action is the one to name where there is room for one.
func (a access) action() Action {
	if len(a.actions) == 0 {
		return ""
	}
	return a.actions[0]
}

var (
	pull   = []Action{ActionPull}
	push   = []Action{ActionPush}
	remove = []Action{ActionDelete}
	admin  = []Action{ActionAdmin}
	// mount reads a blob of one repository into another.
	mount = []Action{ActionPush, ActionPull}
)

// An endpoint is the methods that the specification has for a kind of path,
// and what they do ("Endpoints").
type endpoint map[string][]Action

var (
	base      = endpoint{http.MethodGet: nil, http.MethodHead: nil}
	lists     = endpoint{http.MethodGet: pull, http.MethodHead: pull}
	manifests = endpoint{http.MethodGet: pull, http.MethodHead: pull, http.MethodPut: push, http.MethodDelete: remove}
	blobs     = endpoint{http.MethodGet: pull, http.MethodHead: pull, http.MethodDelete: remove}
	// uploads are pushes, whether one begins, goes on, is asked about or ends.
	uploads = endpoint{
		http.MethodGet: push, http.MethodHead: push, http.MethodDelete: push,
		http.MethodPost: push, http.MethodPut: push, http.MethodPatch: push,
	}
	unknown = endpoint{}
)

// accessOf is what r needs, by its method, URL and header: the body is not
// ours to read. It is not ok outside /v2/, and for a path that some server
// might take to lead there: what lies there, such as /metrics and /debug,
// belongs to whoever runs the registry. A role for one context's registry,
// its admin's included, says nothing about that.
func accessOf(r *http.Request) (_ access, ok bool) {
	rest, ok := apiPath(r.URL)
	if !ok {
		return access{}, false
	}
	repository, e := endpointOf(rest)
	actions, ok := e[r.Method]
	switch {
	case !ok || overridesMethod(r):
		actions = admin
	case r.Method == http.MethodPost && mayMount(r): // only uploads are posted
		actions = mount
	}
	return access{repository, actions}, true
}

// colon is the one character of a path that some clients escape without need.
var colon = strings.NewReplacer("%3A", ":", "%3a", ":")

// apiPath is the path behind /v2/. Everybody has to read it alike: servers do
// not agree on what an escaped slash, a dot, a backslash or a semicolon means,
// and no name, tag or digest needs them.
func apiPath(u *url.URL) (rest string, ok bool) {
	p := colon.Replace(u.EscapedPath())
	if p != u.Path || strings.IndexFunc(p, isForeign) >= 0 {
		return "", false
	}
	if p == "/v2" {
		return "", true
	}
	rest, ok = strings.CutPrefix(p, "/v2/")
	return rest, ok && path.Clean(p) == strings.TrimSuffix(p, "/")
}

func isForeign(c rune) bool {
	return !isAlphanumeric(c) && !strings.ContainsRune("/-._:+=", c)
}

func isAlphanumeric(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// endpointOf reads the path from its end: a repository may be called
// a/blobs/uploads or manifests/manifests, but what follows its name has no
// slash.
func endpointOf(rest string) (repository string, e endpoint) {
	switch rest {
	case "":
		return "", base
	case "_catalog":
		return "", lists
	}
	slash := max(strings.LastIndexByte(rest, '/'), 0)
	dir, last := rest[:slash], strings.TrimPrefix(rest[slash:], "/")
	for _, s := range []struct {
		suffix   string
		endpoint endpoint
		ok       bool
	}{
		{"/manifests", manifests, isReference(last)},
		{"/blobs", blobs, isDigest(last)},
		{"/blobs/uploads", uploads, last == "" || isReference(last)},
		{"/tags", lists, last == "list"},
		{"/referrers", lists, isDigest(last)},
	} {
		name, found := strings.CutSuffix(dir, s.suffix)
		if found && s.ok && isRepository(name) {
			return name, s.endpoint
		}
	}
	return "", unknown
}

// isRepository takes every name of the specification ("Pulling manifests"),
// and a few others, which no registry knows.
func isRepository(name string) bool {
	for component := range strings.SplitSeq(name, "/") {
		trimmed := strings.Trim(component, "-._")
		if trimmed == "" || trimmed != component || strings.ContainsAny(component, ":+=") || component != strings.ToLower(component) {
			return false
		}
	}
	return true
}

// isReference takes tags, digests and the ids of uploads.
func isReference(s string) bool { return s != "" && s[0] != '.' }

func isDigest(s string) bool { return isReference(s) && strings.Contains(s, ":") }

// mayMount reports whether a blob may be mounted instead of uploaded. The
// parameters count in a form as well, in distribution at least, and then they
// are in the body.
func mayMount(r *http.Request) bool {
	if contentTypeHas(r, "urlencoded") {
		return true
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	return err != nil || query.Has("mount") || query.Has("from")
}

// isMultipart reports whether the body is in parts. Distribution reads those as
// a form, for its parameters, and leaves files of what does not fit into
// memory; nothing of the specification is sent so.
func isMultipart(r *http.Request) bool { return contentTypeHas(r, "multipart") }

// contentTypeHas looks into all of them, and is not particular how they are
// spelled: servers are not, either.
func contentTypeHas(r *http.Request, text string) bool {
	return slices.ContainsFunc(r.Header["Content-Type"], func(contentType string) bool {
		return strings.Contains(strings.ToLower(contentType), text)
	})
}

// overridesMethod reports whether a server that honours such things may see
// another method than we do. Distribution does not.
func overridesMethod(r *http.Request) bool {
	for name := range r.Header {
		switch canonicalName(name) {
		case "x-http-method-override", "x-http-method", "x-method-override":
			return true
		}
	}
	return r.URL.RawQuery != "" && r.URL.Query().Has("_method")
}
