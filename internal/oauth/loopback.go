package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
)

const (
	callbackPath = "/callback"
	// pageGrace is how long a browser may take from the redirect to the page
	// at the end.
	pageGrace = 3 * time.Second
)

// loopback answers a browser on 127.0.0.1. Whoever else finds the port (other
// users, other programs, any page that is open in a browser) is told plainly
// that there is nothing for him.
//
// The redirect itself is answered at once, with the way to another page, so
// that the code leaves the address bar and the history; that page is held back
// until it is known how the login ended. Its address is a secret between us and
// the browser, because it says who has logged in.
type loopback struct {
	host     string // as a browser writes it into Host
	pagePath string
	take     func(query string) error // the redirect's

	isComing atomic.Bool // a browser was sent to the page
	end      sync.Once
	ended    chan struct{} // page is set
	page     Page
	shown    chan struct{}
	showOnce sync.Once
}

// listen starts the listener on 127.0.0.1: no name, which could be made to
// point elsewhere, and no other interface (RFC 8252 §8.3).
func (b *BrowserLogin) listen(ctx context.Context, port int) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		if operation := (*net.OpError)(nil); errors.As(err, &operation) {
			err = operation.Err // the rest repeats the address
		}
		return fmt.Errorf("%w, port %d: %w", ErrNotListening, port, err)
	}
	b.loopback = newLoopback(b, listener.Addr().String())
	b.RedirectURI = "http://" + b.loopback.host + callbackPath
	server := &http.Server{
		Handler:                      b.loopback,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  5 * time.Second, // no request has a body that matters
		MaxHeaderBytes:               2 * maxRedirect,
		ErrorLog:                     log.New(io.Discard, "", 0),
	}
	server.SetKeepAlivesEnabled(false)
	b.close = func() {
		_ = server.Close()
		_ = listener.Close() // which Serve may not have got hold of yet
	}
	go func() {
		defer crash.Guard()
		_ = server.Serve(listener)
	}()
	return nil
}

func newLoopback(b *BrowserLogin, host string) *loopback {
	return &loopback{
		host:     host,
		pagePath: "/" + rand.Text(),
		take: func(query string) error {
			r, err := b.parse(query)
			if err == nil {
				b.arrive(r)
			}
			return err
		},
		ended: make(chan struct{}),
		shown: make(chan struct{}),
	}
}

// Finish ends the login and the listener. A browser that came back by itself is
// shown p first, if it asks for it soon.
func (b *BrowserLogin) Finish(ctx context.Context, p Page) {
	l := b.loopback
	l.end.Do(func() {
		l.page = p
		close(l.ended)
	})
	if l.isComing.Load() {
		grace := pageGrace
		if ctx.Err() != nil { // somebody is waiting for the prompt
			grace = pageGrace / 10
		}
		select {
		case <-l.shown:
		case <-time.After(grace):
		}
	}
	b.close()
}

func (l *loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy())
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	switch path := r.URL.EscapedPath(); {
	case r.Host != l.host: // a name that was made to point here (DNS rebinding)
		l.refuse(w, http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet:
		h.Set("Allow", http.MethodGet)
		l.refuse(w, http.StatusMethodNotAllowed)
	case path == callbackPath:
		if err := l.take(r.URL.RawQuery); err != nil {
			l.refuse(w, http.StatusBadRequest)
			return
		}
		l.isComing.Store(true)
		h.Set("Location", l.pagePath)
		w.WriteHeader(http.StatusSeeOther)
	case path == l.pagePath:
		l.showPage(w, r)
	default:
		l.refuse(w, http.StatusNotFound)
	}
}

// refuse does not say why: he who belongs here does not ask.
func (l *loopback) refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "Nothing to see here. A program is waiting for its own login to come back.\n")
}

// showPage holds the browser until the login has ended.
func (l *loopback) showPage(w http.ResponseWriter, r *http.Request) {
	select {
	case <-l.ended:
	case <-r.Context().Done():
		return
	}
	body := l.page.render()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush() // Finish ends the process soon
	l.showOnce.Do(func() { close(l.shown) })
}
