package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/gate"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/listen"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/observe"
)

const (
	// grace is how long uploads may go on when the service has to end.
	grace = 10 * time.Minute
	// drain is how long /readyz says so before no more connections are taken.
	drain = 3 * time.Second
)

// A service is what serve and verify have in common.
type service struct {
	config *config.Config
	gate   *gate.Gate
	log    *slog.Logger

	ready      func(context.Context) error // nil: always
	background []func(context.Context)
}

// newService reads the configuration and makes the gate. The log is JSON, on
// standard error.
func newService(cmd *cobra.Command, file string) (*service, error) {
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

// run answers with api at path, and below it, until ctx ends.
func (s *service) run(ctx context.Context, o *observe.Observer, path string, api http.Handler, about ...any) error {
	main, err := s.listen(ctx, s.config.Listen)
	if err != nil {
		return err
	}
	h := &health{check: s.ready, log: s.log}
	main.Handler = o.Middleware(s.gate.DropForwarded(route(path, api, h)))
	services := []listen.Service{main}
	if s.config.MetricsListen != "" {
		metrics, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.MetricsListen)
		if err != nil {
			_ = main.Listener.Close() // nobody has connected
			return fmt.Errorf("metrics: %w", err)
		}
		scrape := http.NewServeMux()
		scrape.Handle("GET /metrics", o.Metrics())
		services = append(services, listen.Service{Listener: metrics, Handler: scrape})
		about = append(about, slog.String("metrics", metrics.Addr().String()))
	}
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
	return listen.Serve(ctx, listen.Options{Grace: grace, Stopping: func() { s.stop(h) }, Log: s.log}, services...)
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
func (s *service) stop(h *health) {
	h.end()
	s.log.Info("ending; requests under way may go on", slog.String("for", grace.String()))
	time.Sleep(drain)
}

// route passes on to api what is at path or below it. A [http.ServeMux] would
// send clients on to a tidier address, with the query in it, and a key may be
// there.
func route(path string, api http.Handler, h *health) http.Handler {
	nothing := &registry.Error{Status: http.StatusNotFound, Code: "UNSUPPORTED", Message: "nothing is served here"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		below, isAPI := strings.CutPrefix(r.URL.Path, path)
		switch {
		case isAPI && (below == "" || below[0] == '/'):
			api.ServeHTTP(w, r)
		case r.URL.Path == "/healthz":
			answerAlive(w, r)
		case r.URL.Path == "/readyz":
			h.answerReady(w, r)
		default:
			nothing.ServeHTTP(w, r)
		}
	})
}
