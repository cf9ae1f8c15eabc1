// Package observe says what happened: one line in the log for each request, and
// metrics. Neither ever holds a credential.
package observe

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// Options of [New]. The zero value counts, and logs nothing.
type Options struct {
	Log        *slog.Logger                   // access log; nil means none
	ClientAddr func(*http.Request) netip.Addr // nil means RemoteAddr
	Stats      func() registry.Stats          // nil means that there is no Authenticator
	Apps       func() (live, evicted int)     // registries of contexts; nil means that there are none
	Version    string                         // for dtz_registry_build_info
}

// An Observer watches requests: what the gate decides, and what is answered.
type Observer struct {
	options  Options
	registry *prometheus.Registry
	metrics  *metrics
}

// New returns an Observer with metrics of its own, apart from those of other
// Observers.
func New(o Options) *Observer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ClientAddr == nil {
		o.ClientAddr = peer
	}
	observer := &Observer{options: o, registry: prometheus.NewRegistry()}
	observer.metrics = newMetrics(observer.registry, o)
	return observer
}

func peer(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero Addr where it cannot be told
	return addr.Addr().Unmap()
}

// requestIDHeader tells the client the name of its line in the log. What a
// client sends in it is not read.
const requestIDHeader = "X-Request-Id"

// A record is what is known of a request.
type record struct {
	id           string
	start        time.Time
	method, path string
	client       netip.Addr
	userAgent    string
	bodiless     bool // net/http sends no body to HEAD

	decided  bool
	decision registry.Decision // the zero one until decided

	received atomic.Int64 // bytes of the body; whoever passes it on may still be reading
	sent     int64        // likewise
	status   int          // 0 until it is known
	broken   bool         // the answer has not been sent whole
	panicked bool         // and not to break the connection on purpose
	duration time.Duration
}

type recordKey struct{}

// Middleware watches what next does. It belongs around everything else, so that
// nothing escapes the log but /healthz and /readyz, which are asked all day.
func (o *Observer) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		rec := &record{
			id:        rand.Text(),
			start:     time.Now(),
			method:    r.Method,
			path:      r.URL.Path,
			client:    o.options.ClientAddr(r),
			userAgent: r.UserAgent(),
			bodiless:  r.Method == http.MethodHead,
		}
		w.Header().Set(requestIDHeader, rec.id)
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &countedBody{r.Body, &rec.received}
		}
		o.metrics.inFlight.Inc()
		defer o.end(rec)
		next.ServeHTTP(httpsnoop.Wrap(w, rec.hooks()), r)
		rec.writeHeader(http.StatusOK) // as net/http does for who has written none
	})
}

// end is deferred: a handler may panic, on purpose or not. The panic goes on to
// the server, which alone can break off the connection.
func (o *Observer) end(rec *record) {
	cause := recover()
	rec.duration = time.Since(rec.start)
	if cause != nil {
		rec.broken = true
		rec.panicked = cause != http.ErrAbortHandler
	}
	o.metrics.inFlight.Dec()
	o.metrics.count(rec)
	o.log(rec)
	if cause != nil {
		panic(cause)
	}
}

// Decided is for [registry.Handler.Observe] and [registry.ForwardAuth.Observe].
// Of a request that has not come through Middleware it takes no note. The
// method and the path are from now on those of r, which are the client's where
// a proxy has asked on its behalf.
func (o *Observer) Decided(r *http.Request, d registry.Decision) {
	rec, ok := r.Context().Value(recordKey{}).(*record)
	if !ok {
		return
	}
	rec.decided, rec.decision = true, d
	rec.method, rec.path = r.Method, r.URL.Path
	o.metrics.decisions.Observe(time.Since(rec.start).Seconds())
}

// outcome is what became of the request, in a word: what the gate decided, or
// that the client has gone before that, or before the answer was whole.
func (rec *record) outcome() string {
	refusal := rec.decision.Err
	switch {
	case refusal != nil:
	case rec.broken:
		return "aborted"
	case rec.decided:
		return "allowed"
	default:
		return "undecided"
	}
	switch refusal.Status {
	case http.StatusBadRequest:
		return "malformed"
	case http.StatusUnauthorized:
		if rec.decision.Source == "" {
			return "challenged"
		}
		return "refused"
	case http.StatusTooManyRequests:
		return "limited"
	case http.StatusServiceUnavailable:
		return "unavailable"
	case registry.StatusClientGone:
		return "aborted"
	}
	return "denied"
}

// hooks watch the answer, and leave it to the server: what it offers, such as
// to copy a file without reading it, it still does.
func (rec *record) hooks() httpsnoop.Hooks {
	return httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(status int) {
				next(status)
				rec.writeHeader(status)
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(p []byte) (int, error) {
				n, err := next(p)
				rec.wrote(int64(n), err)
				return n, err
			}
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				n, err := next(src)
				rec.wrote(n, err)
				return n, err
			}
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				next()
				rec.writeHeader(http.StatusOK)
			}
		},
	}
}

// writeHeader notes the first status that is not one of several (RFC 9110
// §15.2).
func (rec *record) writeHeader(status int) {
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
}

func (rec *record) wrote(n int64, err error) {
	rec.writeHeader(http.StatusOK)
	if !rec.bodiless {
		rec.sent += n
	}
	if err != nil && err != http.ErrBodyNotAllowed {
		rec.broken = true
	}
}

// A countedBody counts what is read of it.
type countedBody struct {
	io.ReadCloser
	received *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.received.Add(int64(n))
	return n, err
}
