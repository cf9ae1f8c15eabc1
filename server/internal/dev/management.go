package dev

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// managementPath is where the registry's management API begins.
const managementPath = "/api/2023-12-28"

// management is the registry's management API for the caller's context. On the
// platform the service has to be enabled for each context first; here it is,
// until somebody disables it, or again after a restart.
type management struct {
	authenticator *registry.Authenticator
	policy        registry.Policy
	apps          *tenant.Apps
	address       string // of the registry
	log           *slog.Logger

	mu       sync.Mutex
	disabled map[string]bool // by canonical context id
}

func (m *management) handler() http.Handler {
	mux := http.NewServeMux()
	for _, call := range []struct {
		method, path string
		handler      http.HandlerFunc
	}{
		{http.MethodGet, "/stats", m.stats},
		{http.MethodPost, "/enable", m.setDisabled(false)},
		{http.MethodPost, "/disable", m.setDisabled(true)},
	} {
		mux.HandleFunc(call.method+" "+managementPath+call.path, call.handler)
		mux.HandleFunc(managementPath+call.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", call.method) // RFC 9110 §15.5.6
			writeMessage(w, http.StatusMethodNotAllowed, "want "+call.method)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeMessage(w, http.StatusNotFound, "no such endpoint")
	})
	return mux
}

// stats counts repositories as images.
func (m *management) stats(w http.ResponseWriter, r *http.Request) {
	id, err := m.authorize(r)
	if err != nil {
		m.refuse(w, err)
		return
	}
	count, err := m.apps.CountRepositories(r.Context(), id)
	if err != nil {
		m.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		ImageCount int    `json:"imageCount"`
		ServerURL  string `json:"serverUrl"`
	}{count, m.address})
}

func (m *management) setDisabled(disabled bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := m.authorize(r)
		if err != nil {
			m.refuse(w, err)
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.disabled == nil {
			m.disabled = make(map[string]bool)
		}
		m.disabled[id] = disabled
	}
}

// onlyEnabled lets requests for images through where the registry is enabled.
func (m *management) onlyEnabled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if profile, ok := registry.ProfileFrom(r.Context()); ok && m.isDisabled(profile.Context) {
			(&registry.Error{
				Status:  http.StatusForbidden,
				Code:    "DENIED",
				Message: "the container registry is not enabled for " + profile.Context,
			}).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (m *management) isDisabled(contextID string) bool {
	id, err := tenant.CanonicalID(contextID)
	m.mu.Lock()
	defer m.mu.Unlock()
	return err == nil && m.disabled[id]
}

// authorize is the caller's context, if he may manage its registry.
func (m *management) authorize(r *http.Request) (contextID string, err error) {
	profile, err := m.authenticator.Authenticate(r)
	if err != nil {
		return "", err
	}
	if err := m.policy.Authorize(profile, registry.ActionAdmin); err != nil {
		return "", err
	}
	id, err := tenant.CanonicalID(profile.Context)
	if err != nil {
		return "", &registry.Error{Status: http.StatusForbidden, Message: "the token's scope is " + err.Error()}
	}
	return id, nil
}

func (m *management) refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		m.log.Error("management API", "error", err)
		e = &registry.Error{Status: http.StatusServiceUnavailable, Message: "not available at the moment", RetryAfter: 5 * time.Second}
	}
	e.SetHeader(w.Header())
	writeMessage(w, e.Status, e.Message)
}

// writeMessage answers an error as the platform's REST services do.
func writeMessage(w http.ResponseWriter, status int, msg string) {
	writeJSON(w, status, struct {
		Msg string `json:"msg"`
	}{msg})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nobody is left to tell
}
