// Package dockerconfig writes and removes entries under credHelpers in
// Docker's config.json, and in containers' auth.json, which has the same form.
// What else stands in the file is the user's: it stays byte for byte, and a
// file that is not plain JSON is left alone.
package dockerconfig

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The names by which entries of ours go: Docker runs the program
// docker-credential-NAME.
const (
	Helper = "dtz"
	// HelperInWindows is our program for Windows, which Docker in WSL can run.
	HelperInWindows = "dtz.exe"
)

// IsOurs reports whether an entry that names helper is one of ours.
func IsOurs(helper string) bool { return helper == Helper || helper == HelperInWindows }

// Path is where Docker's command line looks for its configuration:
// $DOCKER_CONFIG/config.json, else .docker/config.json in the home folder. It is
// empty if both are.
func Path(getenv func(string) string, home string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".docker", "config.json")
}

// ContainersPath is where podman, buildah and skopeo look for credentials, on
// the system goos (containers-auth.json(5)): the file that outlives a reboot,
// and the one, if any, that they ask before it. It is empty if home is and
// nothing else says where.
func ContainersPath(getenv func(string) string, home, goos string, uid int) (path, first string) {
	if path := getenv("REGISTRY_AUTH_FILE"); path != "" {
		return path, ""
	}
	dir := ""
	if home != "" {
		dir = filepath.Join(home, ".config")
	}
	if xdg := getenv("XDG_CONFIG_HOME"); xdg != "" && goos == "linux" {
		dir = xdg
	}
	if dir == "" {
		return "", ""
	}
	path = filepath.Join(dir, "containers", "auth.json")
	if goos != "linux" {
		return path, ""
	}
	runtimeDir := getenv("XDG_RUNTIME_DIR")
	if runtimeDir == "" {
		return path, filepath.Join("/run/containers", strconv.Itoa(uid), "auth.json")
	}
	return path, filepath.Join(runtimeDir, "containers", "auth.json")
}

// File is a configuration file, which need not exist. Every error of its
// methods names the file; what is wrong inside it is named with its line.
type File struct {
	Path string
}

// Helpers returns the file's credHelpers as Docker reads them, registry address
// to helper name; nil if there is no file.
func (f File) Helpers() (map[string]string, error) {
	now, err := read(f.Path)
	if err != nil {
		return nil, err
	}
	helpers, err := decode(now.data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return helpers, nil
}

// Answers reports whether the file has an answer for address that is none of
// helpers: another helper, or a secret under auths, for the registry or for a
// repository in it.
func (f File) Answers(address string, helpers ...string) (bool, error) {
	named, err := f.Helpers()
	if err != nil {
		return false, err
	}
	if helper := named[address]; helper != "" {
		return !slices.Contains(helpers, helper), nil
	}
	keys, err := f.Secrets()
	return slices.ContainsFunc(keys, func(key string) bool { return IsFor(key, address) }), err
}

// IsFor reports whether a key under auths is for the registry at address, or for
// a repository in it: a scheme and a path do not count, the rest does to the
// letter.
func IsFor(key, address string) bool {
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(key, "http://"), "https://"), "/")
	return host == address
}

// Edit is a change of a file's credHelpers: [Add] or [Remove].
type Edit func(before []byte) (Change, error)

// Change is what an edit makes of a file.
type Change struct {
	Before, After []byte // the content; nil: there is no file
	// Entries are those that are other than before. Without any, nothing is.
	Entries []Entry
	// Helpers are the file's credHelpers after the change.
	Helpers map[string]string
	// Origin is of what Add found.
	Origin Origin
}

// HelpersBefore are the file's credHelpers before the change.
func (c Change) HelpersBefore() map[string]string {
	before := map[string]string{}
	maps.Copy(before, c.Helpers)
	for _, entry := range c.Entries {
		before[entry.Address] = entry.Before
	}
	return before
}

// Entry is the helper of one address, before and after a change; empty: none.
type Entry struct {
	Address       string
	Before, After string
}

// Origin is what [Add] found in the place of the first entry where that cannot
// be told when the entry goes again, for [Remove] to put back. The zero value
// is any other place.
type Origin struct {
	Missing Missing
	Text    string // what stood there instead
}

// Missing is what was not there.
type Missing string

const (
	MissingFile    Missing = "file"
	MissingMembers Missing = "members" // the file held white space, or an empty object: Text
	MissingEntries Missing = "entries" // credHelpers was an empty object: Text
)

// ConflictError is an address that has another credential helper already.
type ConflictError struct {
	Address string
	Helper  string // its name without docker-credential-; empty: Docker's own file is to be used
}

func (e *ConflictError) Error() string {
	if e.Helper == "" {
		return fmt.Sprintf("%q is set to use no credential helper", e.Address)
	}
	return fmt.Sprintf("%q uses the credential helper %q", e.Address, e.Helper)
}
