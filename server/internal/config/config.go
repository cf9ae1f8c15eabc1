// Package config reads the configuration of dtz-registry. What it does not
// understand is an error that names the line: a setting that was misspelled is
// a wall that is not there.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"go.yaml.in/yaml/v3"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// Config is the configuration of dtz-registry, checked.
type Config struct {
	Listen         string         // host:port
	TLS            TLS            // zero: plain HTTP
	TrustedProxies []netip.Prefix // whose X-Forwarded-* count
	MetricsListen  string         // host:port; "" is none
	Verification   Verification
	Nginx          bool // forward_auth.nginx

	// Storage is the kind of the registry's storage: filesystem, s3, gcs, …
	Storage string
	images  []byte // distribution's configuration, in YAML
}

// TLS is a server's certificate.
type TLS struct{ Certificate, Key string } // PEM files

// Verification is how tokens and API keys are judged.
type Verification struct {
	Issuer      string
	Audience    string
	Leeway      time.Duration
	Keys        []registry.Key // the platform's, if there is no other and no URL
	JWKSURL     string
	Contexts    []string
	IdentityURL string // "": API keys are refused
	APIKeyTTL   time.Duration
	Order       registry.Order
	Cookie      registry.CookieUse
	QueryAPIKey bool
	DenyList    string // a file; "" is none
	Roles       registry.Roles
}

// A Warning is about something that works and should not stay so. It names
// file and line.
type Warning string

// defaults are in force where the file says nothing.
func defaults() *Config {
	return &Config{
		Listen: "127.0.0.1:8080",
		Verification: Verification{
			Issuer:      platform.Issuer,
			Audience:    platform.Issuer,
			Leeway:      time.Minute,
			IdentityURL: platform.IdentityURL,
			APIKeyTTL:   5 * time.Minute,
			Roles:       registry.Roles{Admin: []string{platform.RegistryRole}},
		},
	}
}

// maxSize of a configuration is in bytes.
const maxSize = 1 << 20

// Load reads the file at path, and those that it names. Relative names are
// looked up from the working directory. The error has a line for each thing
// that is wrong, with file and line number; it quotes no secret.
func Load(path string) (*Config, []Warning, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxSize {
		return nil, nil, fmt.Errorf("%s: over 1 MiB", path)
	}
	r := &reader{file: path}
	loaded := r.parse(data)
	r.checkFile(&yaml.Node{Line: 1}, "this file", path, r.hasSecret)
	return r.result(loaded)
}

func (r *reader) parse(data []byte) *Config {
	c := defaults()
	root, err := document(data)
	if err != nil {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", r.file, err))
		return nil
	}
	r.config(root, c)
	return c
}

func (r *reader) result(c *Config) (*Config, []Warning, error) {
	if len(r.problems) > 0 {
		return nil, nil, errors.Join(r.problems...)
	}
	return c, r.warnings, nil
}

// document is the one document in data; an empty one is an empty mapping.
func document(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}, nil
	case err != nil:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	return doc.Content[0], nil
}

func (r *reader) config(root *yaml.Node, c *Config) {
	verified := false
	images := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: 1}
	isMapping := r.mapping(root, "", fields{
		"listen":          func(n *yaml.Node, p string) { c.Listen = r.address(n, p) },
		"tls":             func(n *yaml.Node, p string) { r.tls(n, p, &c.TLS) },
		"trusted_proxies": func(n *yaml.Node, p string) { c.TrustedProxies = r.prefixes(n, p) },
		"metrics": func(n *yaml.Node, p string) {
			r.mapping(n, p, fields{"listen": func(n *yaml.Node, p string) {
				if r.text(n, p) != "" {
					c.MetricsListen = r.address(n, p)
				}
			}})
		},
		"verification": func(n *yaml.Node, p string) { r.verification(n, p, &c.Verification); verified = true },
		"forward_auth": func(n *yaml.Node, p string) {
			r.mapping(n, p, fields{"nginx": func(n *yaml.Node, p string) { c.Nginx = r.boolean(n, p) }})
		},
		"registry": func(n *yaml.Node, p string) { images = n },
	})
	if !isMapping {
		return
	}
	if !verified {
		r.problem(root, "verification.contexts", noContexts)
	}
	if len(c.Verification.Keys) == 0 && c.Verification.JWKSURL == "" {
		c.Verification.Keys = []registry.Key{registry.PlatformKey()}
	}
	r.registry(images, c)
}

// Distribution is the registry's own configuration, a new one at each call,
// with nothing in it that another shares. The environment's REGISTRY_… variables
// count, as they do with distribution's own program.
func (c *Config) Distribution() *configuration.Configuration {
	parsed, err := parseDistribution(c.images)
	if err != nil {
		panic(err) // Load has parsed the same text
	}
	return parsed
}

// base is a file's name without folder and extensions: a key's ID.
func base(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return name
}

// Platform is the configuration that has every default and serves every
// context.
func Platform() *Config {
	c := defaults()
	c.Verification.Contexts = []string{"*"}
	c.Verification.Keys = []registry.Key{registry.PlatformKey()}
	return c
}
