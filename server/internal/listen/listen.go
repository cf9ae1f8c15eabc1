// Package listen runs HTTP servers until they are told to end, and ends them
// without cutting off what is under way. It knows nothing of what they answer.
package listen

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// headerTimeout is for the TLS handshake and the header of a request. There
	// is no such limit to a request as a whole: an upload may take hours.
	headerTimeout = 10 * time.Second
	// idleTimeout is between two requests on one connection.
	idleTimeout = 2 * time.Minute
	// maxHeaderSize is in bytes: a token of 48 KiB is 64 KiB in a Basic
	// credential, and as much may be in cookies.
	maxHeaderSize = 128 << 10
)

// A Service is a handler and where it answers.
type Service struct {
	Listener net.Listener
	Handler  http.Handler
	TLS      *tls.Config // nil means plain HTTP/1.1; HTTP/2 is spoken over TLS only
}

// Options of [Serve]. The zero value cuts off what is under way.
type Options struct {
	// Grace is how long requests may go on once the services have to end.
	Grace time.Duration
	// Stopping is called when the context ends or a service has failed, and the
	// listeners are closed when it returns. Nil means at once.
	Stopping func()
	// Log gets what no client is told: failing handshakes, panics, and at once
	// why all services end if one has failed. Nil means none.
	Log *slog.Logger
}

// Serve answers at all services until ctx ends or one of them fails, and ends
// them in the order in which they are given. It closes their listeners. The
// error is of the one that failed; nil if ctx has ended.
func Serve(ctx context.Context, o Options, services ...Service) error {
	log := cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	failed := make(chan error, len(services))
	servers := make([]*http.Server, len(services))
	for i, s := range services {
		server := &http.Server{
			Handler:           hurry(s.Handler),
			TLSConfig:         s.TLS,
			ReadHeaderTimeout: headerTimeout,
			WriteTimeout:      maxStall, // of what no handler answers, such as a bad request; see hurry
			HTTP2:             &http.HTTP2Config{WriteByteTimeout: maxStall},
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderSize,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		servers[i] = server
		go func() {
			if s.TLS != nil {
				failed <- server.ServeTLS(s.Listener, "", "")
			} else {
				failed <- server.Serve(s.Listener)
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		log.Error("a service has failed; all of them end", "error", err)
	}
	if o.Stopping != nil {
		for _, server := range servers {
			server.SetKeepAlivesEnabled(false) // whoever comes again had better go elsewhere
		}
		o.Stopping()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Grace)
	defer cancel()
	for _, server := range servers {
		if cause := server.Shutdown(ctx); cause != nil {
			if errors.Is(cause, context.DeadlineExceeded) {
				log.Warn("requests cut off", "after", o.Grace.String())
			}
			_ = server.Close() // its listener is closed already
		}
	}
	return err
}
