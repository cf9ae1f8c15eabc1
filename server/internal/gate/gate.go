// Package gate makes what stands in front of a registry out of the
// configuration: who is let in, and what whoever is in may do.
package gate

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
)

// A Gate is what [registry.Handler] and [registry.ForwardAuth] need.
type Gate struct {
	Authenticator *registry.Authenticator
	Policy        registry.Policy

	proxies []netip.Prefix
	jwks    *registry.JWKS     // nil: all keys are files
	deny    *registry.DenyList // nil: none
}

// Options of [New]. The zero value works.
type Options struct {
	UserAgent string           // when keys are fetched and API keys are exchanged
	Now       func() time.Time // nil means time.Now
	Log       *slog.Logger     // nil means none
}

// New makes the gate of a configuration. If its keys come from a URL only, they
// have to be there: a registry that cannot verify anything does not start.
func New(ctx context.Context, c *config.Config, o Options) (*Gate, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	v := c.Verification
	g := &Gate{
		Policy:  registry.Policy{Contexts: v.Contexts, Roles: v.Roles},
		proxies: c.TrustedProxies,
	}
	if v.JWKSURL != "" {
		g.jwks = &registry.JWKS{URL: v.JWKSURL, Now: o.Now}
		if err := g.jwks.Fetch(ctx); err != nil {
			if len(v.Keys) == 0 {
				return nil, err
			}
			o.Log.Warn("signing keys cannot be fetched; those from files are in force", "error", err)
		}
		g.jwks.Log = o.Log
	}
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer:   v.Issuer,
		Audience: v.Audience,
		Keys:     v.Keys,
		JWKS:     g.jwks,
		Leeway:   v.Leeway,
		Now:      o.Now,
	})
	if err != nil {
		return nil, err
	}
	if v.DenyList != "" {
		if g.deny, err = registry.OpenDenyList(v.DenyList, o.Log); err != nil {
			return nil, err
		}
	}
	g.Authenticator = &registry.Authenticator{
		Verifier:    verifier,
		APIKeyTTL:   v.APIKeyTTL,
		Order:       v.Order,
		Cookie:      v.Cookie,
		QueryAPIKey: v.QueryAPIKey,
		DenyList:    g.deny,
		ClientAddr:  g.ClientAddr,
	}
	if v.IdentityURL != "" {
		// The platform's own services say from where a key comes.
		host, _ := os.Hostname() // without a name it is not said
		g.Authenticator.Exchange = Exchange(&oauth.Client{BaseURL: v.IdentityURL, UserAgent: o.UserAgent, Now: o.Now, Source: host})
	}
	return g, nil
}

// Run keeps keys and deny-list fresh until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if g.jwks != nil {
		wg.Go(func() { g.jwks.Run(ctx) })
	}
	if g.deny != nil {
		wg.Go(func() { g.deny.Run(ctx) })
	}
}

// ClientAddr is where a request comes from: the peer, or, if that is a trusted
// proxy, the last address in X-Forwarded-For that is not one. What stands
// before it is the client's own word. It is the zero Addr where it cannot be
// told.
func (g *Gate) ClientAddr(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	client := peer.Addr().Unmap()
	if !g.trusts(client) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			break // nobody whom we trust writes that
		}
		if client = addr; !g.trusts(client) {
			break
		}
	}
	return client
}

// parseHop is an element of X-Forwarded-For; some proxies add the port.
func parseHop(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(s)
		addr = withPort.Addr()
	}
	return addr.Unmap(), err == nil
}

// DropForwarded takes from requests what only a trusted proxy may say, unless it
// does: distribution makes addresses of its own out of it.
func (g *Gate) DropForwarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		if !g.trusts(peer.Addr().Unmap()) {
			for name := range r.Header {
				if name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
					delete(r.Header, name)
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(g.proxies, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) })
}
