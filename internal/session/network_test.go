package session

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// network stands between the machine and the identity service: it counts what
// arrives, and does what fault says in the service's place.
type network struct {
	service http.Handler

	mu    sync.Mutex
	calls map[string]int // by method and path behind the base
	sent  []string       // bodies
	fault http.HandlerFunc
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	n.mu.Lock()
	call := r.Method + " " + strings.TrimPrefix(r.URL.Path, identity.BasePath)
	if r.Method == http.MethodDelete {
		call = "DELETE key"
	}
	n.calls[call]++
	n.sent = append(n.sent, string(body))
	fault := n.fault
	n.mu.Unlock()
	if fault == nil {
		fault = n.service.ServeHTTP
	}
	fault(w, r)
}

// http is a client of this network.
func (n *network) http() *http.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	client := oauth.NewHTTPClient(oauth.HTTPOptions{})
	if n.dial != nil {
		client.Transport.(*http.Transport).DialContext = n.dial
	}
	return client
}

// exchanges counts the requests for a new token that have arrived.
func (n *network) exchanges() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls["POST /token/refresh"] + n.calls["POST /auth/apikey"]
}

// requests counts everything that has arrived.
func (n *network) requests() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.sent)
}

func (n *network) lastSent() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[len(n.sent)-1]
}

// breakWith makes the network do f from now on; [works] mends it.
func (n *network) breakWith(f fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault, n.dial = f.answer, f.dial
}

// A fault is what goes wrong, with the answer or before there is one.
type fault struct {
	answer http.HandlerFunc
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

var (
	works = fault{}
	// silent takes the request and never answers.
	silent = fault{answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	// hangsUp takes the connection and closes it.
	hangsUp = fault{answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
	// away refuses connections: nothing listens on port 1.
	away = fault{dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:1")
	}}
)

// answers makes the service say status and msg.
func answers(status int, msg string) fault {
	return fault{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"msg":%q}`, msg)
	}}
}

// discard keeps a server's complaints about its clients out of the tests' output.
var discard = log.New(io.Discard, "", 0)
