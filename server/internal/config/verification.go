package config

import (
	"crypto/rsa"
	"crypto/tls"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

const noContexts = `nobody may use this registry; set the contexts that may, like ["context-abc12345"], or ["*"] for every one`

const (
	// maxLeeway is ample for a clock that somebody looks after.
	maxLeeway = 10 * time.Minute
	// maxAPIKeyTTL is the platform's own limit.
	maxAPIKeyTTL = time.Hour
	// minTLSBits of an RSA key is what clients insist on.
	minTLSBits = 2048
)

func (r *reader) verification(n *yaml.Node, path string, v *Verification) {
	contexts := false
	isMapping := r.mapping(n, path, fields{
		"issuer":   func(n *yaml.Node, p string) { v.Issuer = r.required(n, p) },
		"audience": func(n *yaml.Node, p string) { v.Audience = r.required(n, p) },
		"leeway":   func(n *yaml.Node, p string) { v.Leeway = r.duration(n, p, 0, maxLeeway) },
		"keys":     func(n *yaml.Node, p string) { v.Keys = r.keys(n, p) },
		"jwks_url": func(n *yaml.Node, p string) { v.JWKSURL = r.jwksURL(n, p) },
		"contexts": func(n *yaml.Node, p string) { v.Contexts = r.contexts(n, p); contexts = true },
		"identity_url": func(n *yaml.Node, p string) {
			v.IdentityURL = r.text(n, p)
			if v.IdentityURL == "" {
				return
			}
			checked, err := oauth.CheckBaseURL(v.IdentityURL)
			if err != nil {
				r.problem(n, p, "%v", err)
			}
			v.IdentityURL = checked
		},
		"api_key_ttl": func(n *yaml.Node, p string) { v.APIKeyTTL = r.duration(n, p, time.Second, maxAPIKeyTTL) },
		"order": func(n *yaml.Node, p string) {
			v.Order = oneOf(r, n, p, []string{"explicit", "platform"}, []registry.Order{registry.OrderExplicit, registry.OrderPlatform})
		},
		"cookie": func(n *yaml.Node, p string) {
			v.Cookie = oneOf(r, n, p, []string{"safe", "all", "off"}, []registry.CookieUse{registry.CookieSafe, registry.CookieAll, registry.CookieOff})
		},
		"query_api_key": func(n *yaml.Node, p string) { v.QueryAPIKey = r.boolean(n, p) },
		"deny_list": func(n *yaml.Node, p string) {
			v.DenyList = r.text(n, p)
			if v.DenyList == "" {
				return
			}
			if _, err := registry.OpenDenyList(v.DenyList, nil); err != nil {
				r.problem(n, p, "%v", err)
				return
			}
			r.checkFile(n, p, v.DenyList, false)
		},
		"roles": func(n *yaml.Node, p string) {
			r.mapping(n, p, fields{
				"admin":  func(n *yaml.Node, p string) { v.Roles.Admin = r.adminRoles(n, p) },
				"pull":   func(n *yaml.Node, p string) { v.Roles.Pull = r.roles(n, p) },
				"push":   func(n *yaml.Node, p string) { v.Roles.Push = r.roles(n, p) },
				"delete": func(n *yaml.Node, p string) { v.Roles.Delete = r.roles(n, p) },
			})
		},
	})
	if isMapping && !contexts {
		r.problem(n, join(path, "contexts"), noContexts)
	}
}

// keys reads PEM files. A key's ID is its file's name without extensions:
// dtz1.pub.pem verifies tokens whose kid is dtz1.
func (r *reader) keys(n *yaml.Node, path string) (keys []registry.Key) {
	lines := map[string]int{}
	r.each(n, path, func(n *yaml.Node, path string) {
		file := r.required(n, path)
		if file == "" {
			return
		}
		data, err := os.ReadFile(file)
		if err != nil {
			r.problem(n, path, "%v", err)
			return
		}
		key, err := registry.ParseKeyPEM(base(file), data)
		switch {
		case err != nil:
			r.problem(n, path, "%s: %v", file, err)
		case lines[key.ID] > 0:
			r.problem(n, path, "%s: the key ID %s, which is the file's name, stands in line %d already", file, key.ID, lines[key.ID])
		default:
			lines[key.ID] = n.Line
			keys = append(keys, key)
			r.checkFile(n, path, file, false)
		}
	})
	return keys
}

func (r *reader) jwksURL(n *yaml.Node, path string) string {
	s := r.text(n, path)
	if s == "" {
		return ""
	}
	_, err := registry.NewVerifier(registry.Config{Issuer: "x", Audience: "x", JWKS: &registry.JWKS{URL: s}})
	if err != nil {
		r.problem(n, path, "%v", err)
	}
	return s
}

func (r *reader) contexts(n *yaml.Node, path string) (contexts []string) {
	before := len(r.problems)
	r.each(n, path, func(n *yaml.Node, path string) {
		id := r.required(n, path)
		if _, err := tenant.CanonicalID(id); err != nil && id != "*" && id != "" {
			r.problem(n, path, `want the id of a context, like context-abc12345, or "*"`)
		}
		contexts = append(contexts, id)
	})
	switch {
	case len(r.problems) > before:
	case len(contexts) == 0:
		r.problem(n, path, noContexts)
	case len(contexts) > 1:
		for i, id := range contexts {
			if id == "*" {
				r.problem(n.Content[i], path, `"*" is every context, and stands alone`)
			}
		}
	}
	return contexts
}

// adminRoles are not none: that would mean the default, and not what it says.
func (r *reader) adminRoles(n *yaml.Node, path string) []string {
	before := len(r.problems)
	roles := r.roles(n, path)
	if len(roles) == 0 && len(r.problems) == before {
		r.problem(n, path, "is empty; leave it out for the default")
	}
	return roles
}

func (r *reader) roles(n *yaml.Node, path string) (roles []string) {
	r.each(n, path, func(n *yaml.Node, path string) {
		role := r.required(n, path)
		prefix, _ := strings.CutSuffix(role, "{context_id}")
		switch {
		case role == "":
		case strings.ContainsAny(prefix, "{}"):
			r.problem(n, path, "want {context_id} at the end, and no other braces")
		case !strings.Contains(prefix, "://") || strings.ContainsFunc(role, func(c rune) bool { return c <= ' ' || c > '~' }):
			r.problem(n, path, "want a URI, like %s", platform.RegistryRole)
		case prefix != role && !strings.HasSuffix(prefix, "/"):
			r.problem(n, path, "want a slash before {context_id}")
		default:
			roles = append(roles, role)
		}
	})
	return roles
}

func (r *reader) tls(n *yaml.Node, path string, t *TLS) {
	before := len(r.problems)
	r.mapping(n, path, fields{
		"certificate": func(n *yaml.Node, p string) {
			if t.Certificate = r.text(n, p); t.Certificate != "" {
				r.checkFile(n, p, t.Certificate, false)
			}
		},
		"key": func(n *yaml.Node, p string) {
			if t.Key = r.text(n, p); t.Key != "" {
				r.checkFile(n, p, t.Key, true)
			}
		},
	})
	switch {
	case len(r.problems) > before:
		return
	case (t.Certificate == "") != (t.Key == ""):
		r.problem(n, path, "want both a certificate and a key, or neither")
		return
	case t.Certificate == "":
		return
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		r.problem(n, path, "%v", err)
		return
	}
	if key, ok := pair.PrivateKey.(*rsa.PrivateKey); ok && key.N.BitLen() < minTLSBits {
		r.problem(n, path, "%s: has %d bits, want %d or more", t.Key, key.N.BitLen(), minTLSBits)
	}
}
