// Package dockerconfig writes and removes entries under credHelpers in
// Docker's config.json. What else stands in the file is the user's: it stays
// byte for byte, and a file that is not plain JSON is left alone.
package dockerconfig

import (
	"fmt"
	"path/filepath"
)

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

// Add makes helper the credential helper of each address, e.g. "dtz" for the
// program docker-credential-dtz, and returns the addresses whose entry is new.
// An entry that names another helper is a [*ConflictError], and then nothing is
// written, unless replace. A file or folder that is not there is made, for its
// owner only.
func (f File) Add(addresses []string, helper string, replace bool) (changed []string, err error) {
	return f.apply(adding(addresses, helper, replace))
}

// PreviewAdd returns what the file holds, nil if there is none, and what it
// would hold after Add.
func (f File) PreviewAdd(addresses []string, helper string, replace bool) (before, after []byte, err error) {
	return f.preview(adding(addresses, helper, replace))
}

// Remove removes the entries of addresses that name one of helpers, and
// credHelpers itself when the last of its entries goes. It returns the
// addresses whose entry is gone.
func (f File) Remove(addresses []string, helpers ...string) (changed []string, err error) {
	return f.apply(removing(addresses, helpers))
}

// PreviewRemove returns what the file holds, nil if there is none, and what it
// would hold after Remove.
func (f File) PreviewRemove(addresses []string, helpers ...string) (before, after []byte, err error) {
	return f.preview(removing(addresses, helpers))
}

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
