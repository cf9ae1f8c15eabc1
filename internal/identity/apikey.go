package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// APIKey is what the service keeps of an API key: not the key itself.
type APIKey struct {
	Hash    string `json:"sha256"`  // SHA-256 of the key, hexadecimal
	Subject string `json:"subject"` // the identity it acts as
	Context string `json:"context"` // where it acts unless another context is asked for
	Alias   string `json:"alias,omitempty"`
}

// HashAPIKey returns [APIKey].Hash of key.
func HashAPIKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// CreateKey makes an API key for the identity subject in context, its default
// one for "".
func (s *Service) CreateKey(subject, context, alias string) (string, error) {
	u, context, err := s.find(subject, context)
	if err != nil {
		return "", err
	}
	key := "apikey-" + strings.ToLower(rand.Text()[:24])
	k := APIKey{HashAPIKey(key), u.Subject, context, alias}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.apiKeys[k.Hash] = k
	if err := s.saveAPIKeys(s.sortedAPIKeys()); err != nil {
		delete(s.apiKeys, k.Hash)
		return "", fmt.Errorf("saving the API key: %w", err)
	}
	return key, nil
}

// DeleteKey forgets key: from now on it is refused. Tokens made from it live
// on until they expire. A key that is not there is no error.
func (s *Service) DeleteKey(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, found := s.apiKeys[HashAPIKey(key)]
	if !found {
		return nil
	}
	delete(s.apiKeys, k.Hash)
	if err := s.saveAPIKeys(s.sortedAPIKeys()); err != nil {
		s.apiKeys[k.Hash] = k
		return fmt.Errorf("deleting the API key: %w", err)
	}
	return nil
}

// sortedAPIKeys returns all keys in an order that does not vary. The caller holds
// s.mu.
func (s *Service) sortedAPIKeys() []APIKey {
	return slices.SortedFunc(maps.Values(s.apiKeys), func(a, b APIKey) int { return strings.Compare(a.Hash, b.Hash) })
}

// exchange returns the caller whom an API key stands for, in contextID if that is
// not empty.
func (s *Service) exchange(key secret.String, contextID string) (caller, error) {
	s.mu.Lock()
	k, found := s.apiKeys[HashAPIKey(key.Reveal())]
	s.mu.Unlock()
	if !found {
		return caller{}, refuse(http.StatusUnauthorized, "unknown API key")
	}
	u := s.userWith(k.Subject)
	if contextID == "" {
		contextID = k.Context
	}
	context, found := u.context(contextID)
	if !found {
		// The API description knows no other refusal than 401 here.
		return caller{}, refuse(http.StatusUnauthorized, "this API key may not use that context")
	}
	return caller{user: u, context: context}, nil
}

func (s *Service) authAPIKey(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		APIKey    secret.String `json:"apiKey"`
		ContextID string        `json:"contextId"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	c, err := s.exchange(in.APIKey, in.ContextID)
	if err != nil {
		return err
	}
	return s.grant(w, c.user, c.context)
}

func (s *Service) createAPIKey(w http.ResponseWriter, r *http.Request) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	var in struct {
		ContextID string `json:"contextId"`
		Alias     string `json:"alias"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.ContextID == "" {
		return refuse(http.StatusBadRequest, "contextId is needed")
	}
	if _, found := c.user.context(in.ContextID); !found {
		return refuse(http.StatusForbidden, "this identity may not use that context")
	}
	key, err := s.CreateKey(c.user.Subject, in.ContextID, in.Alias)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, key)
	return nil
}

func (s *Service) deleteAPIKey(w http.ResponseWriter, r *http.Request) error {
	c, err := s.authenticate(r)
	if err != nil {
		return err
	}
	key := r.PathValue("apikey")
	s.mu.Lock()
	k, found := s.apiKeys[HashAPIKey(key)]
	s.mu.Unlock()
	if !found || k.Subject != c.user.Subject {
		return refuse(http.StatusNotFound, "this identity has no such API key")
	}
	return s.DeleteKey(key)
}
