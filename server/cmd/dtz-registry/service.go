package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/gate"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/listen"
)

const (
	// grace is how long uploads may go on when the service has to end.
	grace = 10 * time.Minute
	// drain is how long /readyz says so before no more connections are taken.
	drain = 3 * time.Second
	// readyTimeout is for the storage's answer to /readyz, which is good for
	// readyInterval: anybody may ask.
	readyTimeout  = 5 * time.Second
	readyInterval = 2 * time.Second
)

// A service is what serve and verify have in common.
type service struct {
	config *config.Config
	gate   *gate.Gate
	log    *slog.Logger

	ready      func(context.Context) error // nil: always
	background []func(context.Context)
	stopping   atomic.Bool

	mu      sync.Mutex
	asked   time.Time // when ready was, and what it said
	problem error
}

// newService reads the configuration and makes the gate. The log is JSON, on
// standard error.
func newService(cmd *cobra.Command, file string) (*service, error) {
	// Distribution would send traces to a collector on this machine.
	if os.Getenv("OTEL_TRACES_EXPORTER") == "" {
		if err := os.Setenv("OTEL_TRACES_EXPORTER", "none"); err != nil {
			return nil, err
		}
	}
	c, warnings, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	s := &service{config: c, log: slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))}
	for _, w := range warnings {
		s.log.Warn(string(w))
	}
	s.gate, err = gate.New(cmd.Context(), c, gate.Options{UserAgent: "dtz-registry/" + version(), Log: s.log})
	if err != nil {
		return nil, err
	}
	s.background = append(s.background, s.gate.Run)
	return s, nil
}

// run answers with mux, which it completes, until ctx ends.
func (s *service) run(ctx context.Context, mux *http.ServeMux, about ...any) error {
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", s.answerReady)
	mux.Handle("/", &registry.Error{Status: http.StatusNotFound, Code: "UNSUPPORTED", Message: "nothing is served here"})

	main, err := s.listen(ctx, s.config.Listen)
	if err != nil {
		return err
	}
	main.Handler = s.gate.DropForwarded(mux)
	background, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last request has ended
	var wg sync.WaitGroup
	for _, f := range s.background {
		wg.Go(func() { f(background) })
	}
	defer wg.Wait()
	defer stop()
	s.log.Info("ready", append([]any{
		slog.String("addr", main.Listener.Addr().String()),
		slog.Bool("tls", main.TLS != nil),
		slog.Any("contexts", s.config.Verification.Contexts),
		slog.String("version", version()),
	}, about...)...)
	return listen.Serve(ctx, listen.Options{Grace: grace, Stopping: s.stop, Log: s.log}, main)
}

func (s *service) listen(ctx context.Context, addr string) (main listen.Service, err error) {
	var certificate *tls.Config
	if t := s.config.TLS; t.Certificate != "" {
		if certificate, err = listen.TLS(t.Certificate, t.Key, s.log); err != nil {
			return listen.Service{}, err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	return listen.Service{Listener: listener, TLS: certificate}, err
}

// stop gives whoever asks /readyz time to send nobody here any more.
func (s *service) stop() {
	s.stopping.Store(true)
	s.log.Info("ending; requests under way may go on", slog.String("for", grace.String()))
	time.Sleep(drain)
}

// answerReady does not say what is wrong to whoever asks; the log does.
func (s *service) answerReady(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.stopping.Load():
		http.Error(w, "ending", http.StatusServiceUnavailable)
	case s.ready != nil && s.storage(r.Context()) != nil:
		http.Error(w, "storage out of reach", http.StatusServiceUnavailable)
	}
}

// storage is nil if the storage answers, or did lately.
func (s *service) storage(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) < readyInterval {
		return s.problem
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	before := s.problem
	s.problem = s.ready(ctx)
	s.asked = time.Now()
	switch {
	case s.problem != nil && before == nil:
		s.log.Error("storage out of reach", slog.Any("error", s.problem))
	case s.problem == nil && before != nil:
		s.log.Info("storage in reach again")
	}
	return s.problem
}
