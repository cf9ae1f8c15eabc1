package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// readyTimeout is for a check, of which the outcome is good for
	// readyInterval: anybody may ask.
	readyTimeout  = 2 * time.Second
	readyInterval = 3 * time.Second
)

var (
	errEnding = errors.New("ending")
	errSlow   = errors.New("no answer within " + readyTimeout.String())
)

// health answers /healthz and /readyz, and does not say what is wrong to whoever
// asks; the log does.
type health struct {
	check func(context.Context) error // nil: nothing can be wrong
	log   *slog.Logger

	mu       sync.Mutex
	ending   bool
	problem  error         // what was wrong when last checked
	checked  time.Time     // when that was
	checking chan struct{} // closed when the check under way has ended; nil if there is none
}

func answerAlive(w http.ResponseWriter, _ *http.Request) { answerProbe(w, http.StatusOK, "ok") }

func (h *health) answerReady(w http.ResponseWriter, r *http.Request) {
	if h.ready(r.Context()) != nil {
		answerProbe(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	answerProbe(w, http.StatusOK, "ok")
}

func answerProbe(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the client has gone
}

func (h *health) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
}

// ready waits for one check that all who ask share. None begins while one is
// under way, however long: a file system that hangs obeys no context.
func (h *health) ready(ctx context.Context) error {
	h.mu.Lock()
	if h.check != nil && h.checking == nil && time.Since(h.checked) >= readyInterval {
		h.checking = make(chan struct{})
		go h.run(context.WithoutCancel(ctx), h.checking)
	}
	checking := h.checking
	h.mu.Unlock()
	if checking != nil {
		timeout := time.NewTimer(readyTimeout)
		defer timeout.Stop()
		select {
		case <-checking:
		case <-timeout.C:
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.checking == checking {
				h.conclude(errSlow)
			}
			return errSlow
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return errEnding
	}
	return h.problem
}

func (h *health) run(ctx context.Context, done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	problem := h.check(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conclude(problem)
	h.checked, h.checking = time.Now(), nil
	close(done)
}

// conclude takes note of an outcome, and logs it if it is news. The caller holds
// h.mu.
func (h *health) conclude(problem error) {
	switch {
	case problem != nil && h.problem == nil:
		h.log.Error("not ready", slog.Any("error", problem))
	case problem == nil && h.problem != nil:
		h.log.Info("ready again")
	}
	h.problem = problem
}
