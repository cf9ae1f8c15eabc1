// Package dev runs the platform on one machine, for trying and testing: an
// identity service, and a registry that verifies its tokens. Both listen on
// loopback only.
package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/gate"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/listen"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// grace is how long requests may take to end once the instance has to.
const grace = 10 * time.Second

// Options of [Start]. The zero value works.
type Options struct {
	Addr          string           // of the registry, host:port on loopback; "" means 127.0.0.1 and a free port
	IdentityAddr  string           // of the identity service, likewise
	TokenLifetime time.Duration    // in whole seconds; 0 means 24 hours
	Data          string           // folder for images and logins, made if need be; "" means in memory
	Users         []identity.User  // besides the one that is always there
	Now           func() time.Time // the clock of both services; nil means time.Now
	UserAgent     string           // of the registry when it exchanges API keys
	Log           *slog.Logger     // nil means none
}

// Info is what one needs to use an [Instance].
type Info struct {
	Registry  string   `json:"registry"`  // host:port
	Identity  string   `json:"identity"`  // base URL of the API, as DTZ_IDENTITY_URL takes it
	Username  string   `json:"username"`  // of a user who may use all contexts
	Password  string   `json:"password"`  // his
	APIKey    string   `json:"apiKey"`    // his, for the first context
	Contexts  []string `json:"contexts"`  // the default one first
	PublicKey string   `json:"publicKey"` // PEM; verifies tokens
}

// Instance is a running identity service and registry.
type Instance struct {
	Info
	IdentityService *identity.Service

	unlock func() error // gives the data folder free

	done chan struct{}
	err  error // set before done is closed
}

// Start returns once both services listen. They end with ctx; [Instance.Wait]
// says when.
func Start(ctx context.Context, o Options) (_ *Instance, err error) {
	log := cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	i := &Instance{done: make(chan struct{})}
	if i.unlock, err = lock(o.Data); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.unlock())
		}
	}()
	registryListener, err := listenOn(ctx, o.Addr)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	identityListener, err := listenOn(ctx, o.IdentityAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("identity service: %w", err), registryListener.Close())
	}
	i.Registry = registryListener.Addr().String()
	i.Identity = "http://" + identityListener.Addr().String() + identity.BasePath

	handler, err := i.build(o, log)
	if err != nil {
		return nil, errors.Join(err, registryListener.Close(), identityListener.Close())
	}
	go func() {
		defer close(i.done)
		i.err = errors.Join(listen.Serve(ctx, listen.Options{Grace: grace, Log: log},
			listen.Service{Listener: registryListener, Handler: handler}, // first: it needs the other
			listen.Service{Listener: identityListener, Handler: i.IdentityService}), i.unlock())
	}()
	return i, nil
}

// Wait returns when both services have ended: nil if the context of [Start]
// made them.
func (i *Instance) Wait() error {
	<-i.done
	return i.err
}

// build makes both services and fills in i. It returns the registry.
func (i *Instance) build(o Options, log *slog.Logger) (http.Handler, error) {
	saved, err := openState(o.Data)
	if err != nil {
		return nil, err
	}
	key, err := saved.signingKey()
	if err != nil {
		return nil, err
	}
	i.IdentityService, err = identity.New(identity.Config{
		Users:       append([]identity.User{saved.user()}, o.Users...),
		Now:         o.Now,
		Lifetime:    o.TokenLifetime,
		Key:         key,
		KeyID:       keyID,
		APIKeys:     saved.APIKeys,
		SaveAPIKeys: saved.saveAPIKeys,
	})
	if err != nil {
		return nil, err
	}
	if err := saved.ensureAPIKey(i.IdentityService); err != nil {
		return nil, err
	}
	i.Username, i.Password, i.APIKey = saved.Username, saved.Password, saved.APIKey
	i.Contexts = slices.Clone(saved.Contexts)
	i.PublicKey = i.IdentityService.PublicKeyPEM()

	verifier, err := registry.NewVerifier(registry.Config{
		Issuer:   platform.Issuer,
		Audience: platform.Issuer,
		Keys:     []registry.Key{{ID: keyID, Public: i.IdentityService.PublicKey()}},
		Now:      o.Now,
	})
	if err != nil {
		return nil, err
	}
	client := &oauth.Client{BaseURL: i.Identity, UserAgent: o.UserAgent, Now: o.Now, Source: i.Registry}
	front := registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier, Exchange: gate.Exchange(client)},
		Policy:        registry.Policy{Contexts: []string{"*"}}, // the identity service knows no others than ours
		Observe:       logRefusals(log),
	}
	apps := tenant.New(storage(o.Data))
	management := &management{authenticator: front.Authenticator, policy: front.Policy, apps: apps, address: i.Registry, log: log}
	front.Next = management.onlyEnabled(apps)

	mux := http.NewServeMux()
	mux.Handle("/v2/", &front)
	mux.Handle("/v2", &front) // else challenged only after a redirect
	mux.Handle(managementPath+"/", management.handler())
	return mux, nil
}

// logRefusals says why somebody is refused. Every client begins without a
// credential: to be challenged is no news.
func logRefusals(log *slog.Logger) func(*http.Request, registry.Decision) {
	return func(r *http.Request, d registry.Decision) {
		if d.Err == nil {
			return
		}
		level := slog.LevelInfo
		switch {
		case d.Err.Status == http.StatusServiceUnavailable:
			level = slog.LevelWarn
		case d.Source == "":
			level = slog.LevelDebug
		}
		log.LogAttrs(r.Context(), level, "request refused",
			slog.String("method", r.Method),
			slog.String("path", r.URL.Path),
			slog.Int("status", d.Err.Status),
			slog.String("reason", d.Err.Error()))
	}
}

func listenOn(ctx context.Context, addr string) (net.Listener, error) {
	addr = cmp.Or(addr, "127.0.0.1:0")
	resolved, err := LoopbackAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", resolved.String())
}

// LoopbackAddr resolves addr, host:port, if it is one to listen on. The error
// does not quote it.
func LoopbackAddr(addr string) (*net.TCPAddr, error) {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil || !resolved.IP.IsLoopback() { // nor is no IP at all, which would mean every interface
		return nil, errors.New("want a loopback address and a port, like 127.0.0.1:5000")
	}
	return resolved, nil
}
