package dockerconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Secrets returns the keys under auths whose entry holds a secret, sorted: a
// password, or a token. It is for Docker's config.json and for containers'
// auth.json, which has the same shape (containers-auth.json(5)).
func (f File) Secrets() ([]string, error) {
	now, err := read(f.Path)
	if err != nil {
		return nil, err
	}
	keys, err := Secrets(now.data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return keys, nil
}

// Secrets is [File.Secrets] of a file's content, as DOCKER_AUTH_CONFIG holds it.
// Its errors quote nothing of it.
func Secrets(data []byte) ([]string, error) {
	if _, err := decode(data); err != nil || isBlank(data) {
		return nil, err
	}
	var config struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
	}
	if json.Unmarshal(data, &config) != nil {
		return nil, errAuths
	}
	var found []string
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) {
		if e := config.Auths[key]; e.Auth+e.Password+e.IdentityToken+e.RegistryToken != "" {
			found = append(found, key)
		}
	}
	return found, nil
}

// errAuths stands for encoding/json's error, which can quote a secret.
var errAuths = errors.New("auths is not an object of credentials")
