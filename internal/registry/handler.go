package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// A Handler lets through to Next the requests that Authenticator knows and
// Policy allows, and refuses all others with an OCI error body. Next finds the
// caller with [ProfileFrom] and the credential removed.
type Handler struct {
	Authenticator *Authenticator
	Policy        Policy
	Next          http.Handler
	Log           *slog.Logger // one line for each refusal, with its reason; nil means none
}

type profileKey struct{}

// ProfileFrom returns who makes the request that ctx belongs to. It is false for a
// request that has not come through a [Handler].
func ProfileFrom(ctx context.Context) (*Profile, bool) {
	p, ok := ctx.Value(profileKey{}).(*Profile)
	return p, ok
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := h.Authenticator.Authenticate(r)
	if err == nil {
		err = h.Policy.Authorize(p)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	r = r.Clone(context.WithValue(r.Context(), profileKey{}, p))
	r.Header.Del("Authorization")
	h.Next.ServeHTTP(w, r)
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	level := slog.LevelInfo
	switch {
	case !ok:
		e = unavailable(err)
		level = slog.LevelWarn
	case errors.Is(err, errNoCredential):
		level = slog.LevelDebug
	}
	if h.Log != nil {
		h.Log.LogAttrs(r.Context(), level, "request refused",
			slog.String("method", r.Method),
			slog.String("path", r.URL.Path), // the query may hold a key
			slog.Int("status", e.Status),
			slog.String("reason", e.Error()))
	}
	e.ServeHTTP(w, r)
}
