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
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/distribution/distribution/v3/configuration"
	yamlv2 "go.yaml.in/yaml/v2" // distribution's own
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
	images  []byte // distribution's configuration, environment included, in YAML
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
		line, what := syntaxError(err, data)
		r.problem(&yaml.Node{Line: line}, "this file", "%s", what)
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
	if !utf8.Valid(data) { // YAML may be UTF-16, which no editor here writes
		return nil, errors.New("want UTF-8")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}, nil
	case err != nil:
		return nil, err
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
		if root := doc.Content[0]; !isNull(root) {
			return root, nil
		}
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}, nil // its own line is behind the last
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("yaml: line %d: more than one document", second.Line)
}

var syntax = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// syntaxError is where the parser stopped, and why. It tells the line only if
// that is not the first, and if it got as far as lines.
func syntaxError(err error, data []byte) (line int, what string) {
	found := syntax.FindStringSubmatch(err.Error())
	line, what = 1, found[2]
	at := -1
	if name, isAlias := strings.CutPrefix(what, "unknown anchor '"); isAlias {
		name, _, _ = strings.Cut(name, "'")
		at = bytes.Index(data, []byte("*"+name))
		// It may be a password without quotes.
		what = "an alias to nothing; put quotes around a text that begins with *"
	} else if found[1] == "" {
		at = bytes.IndexFunc(data, func(c rune) bool {
			return c == utf8.RuneError || unicode.IsControl(c) && !strings.ContainsRune("\t\r\n\u0085", c)
		})
	}
	if n, err := strconv.Atoi(found[1]); err == nil {
		line = n
	} else if at >= 0 {
		line += bytes.Count(data[:at], []byte("\n"))
	}
	return line, what
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
// count, as they do with distribution's own program, as they were at [Load].
func (c *Config) Distribution() *configuration.Configuration {
	images := new(configuration.Configuration)
	if err := yamlv2.Unmarshal(c.images, images); err != nil {
		panic(err) // it is what was made of one
	}
	return images
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
