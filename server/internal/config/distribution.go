package config

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	yamlv2 "go.yaml.in/yaml/v2" // distribution's own
	"go.yaml.in/yaml/v3"
)

// defaultRoot is where images lie if nobody says otherwise.
const defaultRoot = "/var/lib/dtz-registry"

// ours are keys of distribution's configuration that would go round the
// verification, or let contexts meet, or are set elsewhere, and why.
var ours = map[string]string{
	"auth":       "the verification in front of it takes its place; see verification",
	"log":        "dtz-registry has a log of its own",
	"loglevel":   "dtz-registry has a log of its own",
	"middleware": "it would stand between a context and its images",
	"proxy":      "a pull-through cache belongs to no context",
	"redis":      "a cache that contexts share would show one what another has",
	"health":     "see /readyz",

	"http.addr":         "see listen",
	"http.net":          "see listen",
	"http.tls":          "see tls",
	"http.debug":        "see metrics",
	"http.http2":        "it is on with tls, and only there",
	"http.h2c":          "it is on with tls, and only there",
	"http.prefix":       "the API is at /v2/",
	"http.draintimeout": "uploads are let finish",

	"storage.cache":                     "each context has one of its own, in memory",
	"storage.redirect":                  "a presigned URL would go round the verification",
	"storage.delete":                    "it is on; see verification.roles.delete",
	"storage.maintenance.uploadpurging": "uploads abandoned for seven days are purged",
}

// drivers are the kinds of storage that are built in.
var drivers = []string{"filesystem", "inmemory", "s3", "gcs", "azure"}

// parameters are what the mappings below storage may hold. A driver passes over
// others in silence, so that a misspelled "encrypt" would leave images in the
// clear.
var parameters = map[string][]string{
	"filesystem": {"rootdirectory", "maxthreads"},
	"inmemory":   {},
	"s3": {
		"accesskey", "secretkey", "region", "regionendpoint", "redirectendpoint", "forcepathstyle", "bucket", "encrypt", "keyid",
		"secure", "skipverify", "v4auth", "chunksize", "multipartcopychunksize", "multipartcopymaxconcurrency",
		"multipartcopythresholdsize", "rootdirectory", "storageclass", "objectacl", "useragent", "usedualstack", "accelerate",
		"usefipsendpoint", "loglevel",
	},
	"gcs": {"bucket", "rootdirectory", "chunksize", "keyfile", "credentials", "useragent", "maxconcurrency"},
	"azure": {
		"credentials", "container", "accountname", "accountkey", "connectionstring", "realm", "rootdirectory", "serviceurl",
		"max_retries", "retry_delay", "skipverify",
	},
	"azure.credentials": {"type", "clientid", "tenantid", "secret"},

	"cache":                {},
	"delete":               {},
	"redirect":             {},
	"maintenance":          {"readonly", "uploadpurging"},
	"maintenance.readonly": {"enabled"},
	"tag":                  {"concurrencylimit"},
}

// secrets are keys whose values are secret.
var secrets = []string{"secret", "secretkey", "accountkey", "connectionstring", "private_key"}

// registry reads distribution's own configuration, which may be missing, and
// completes it.
func (r *reader) registry(n *yaml.Node, c *Config) {
	const path = "registry"
	before := len(r.problems)
	r.unknown(n, path, reflect.TypeFor[configuration.Configuration]())
	if len(r.problems) > before {
		return
	}
	settings := map[string]any{}
	if !isNull(n) {
		if err := n.Decode(&settings); err != nil {
			r.problem(n, path, "%s", oneLine(err))
			return
		}
	}
	setDefault(settings, "version", "0.1")
	storage := setDefault(settings, "storage", map[string]any{"filesystem": nil}).(map[string]any)
	if _, ok := storage["filesystem"]; ok {
		setDefault(setDefault(storage, "filesystem", map[string]any{}).(map[string]any), "rootdirectory", defaultRoot)
	}
	http := setDefault(settings, "http", map[string]any{}).(map[string]any)
	random := rand.Text()
	if http["secret"] == nil || http["secret"] == "" {
		http["secret"] = random
	}
	text, err := yaml.Marshal(settings)
	if err != nil {
		r.problem(n, path, "%v", err)
		return
	}
	parsed, err := parseDistribution(text)
	if err == nil {
		c.images, err = yamlv2.Marshal(parsed)
	}
	if err != nil {
		r.problem(n, path, "%s", oneLine(err))
		return
	}
	r.environment(n, path)
	c.Storage = parsed.Storage.Type()
	if !slices.Contains(drivers, c.Storage) {
		r.problem(n, path+".storage", "want one of %v", drivers)
	}
	if c.Storage == "filesystem" || c.Storage == "inmemory" {
		return // there is one replica, and its clients begin their uploads anew after a restart
	}
	if parsed.HTTP.Secret == random { // the environment has none either
		r.warn(n, path+".http.secret", "is missing: uploads end with the replica that began them; set the same one for all")
	}
}

// environment warns of variables that do not count here, though distribution
// obeys them elsewhere.
func (r *reader) environment(n *yaml.Node, path string) {
	var warnings []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for key, why := range ours {
			prefix := "REGISTRY_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			if name == prefix || strings.HasPrefix(name, prefix+"_") {
				warnings = append(warnings, name+" in the environment does not count: "+why)
			}
		}
	}
	slices.Sort(warnings)
	for _, w := range warnings {
		r.warn(n, path, "%s", w)
	}
}

// oneLine is an error of distribution's parser, whose line numbers are not those
// of the file.
func oneLine(err error) string {
	return strings.Join(strings.Fields(lineNumbers.ReplaceAllString(err.Error(), "")), " ")
}

var lineNumbers = regexp.MustCompile(`yaml: |line \d+: `)

func setDefault(m map[string]any, key string, value any) any {
	if m[key] == nil {
		m[key] = value
	}
	return m[key]
}

func parseDistribution(data []byte) (parsed *configuration.Configuration, err error) {
	// It panics where an environment variable names a second kind of storage.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return configuration.Parse(bytes.NewReader(data))
}

// unknown finds what distribution would pass over in silence, and what it must
// not be told here, with its line.
func (r *reader) unknown(n *yaml.Node, path string, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isNull(n):
	case n.Kind == yaml.AliasNode:
		r.problem(n, path, "want no alias")
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for _, element := range n.Content {
			r.unknown(element, path, t.Elem())
		}
	case t == reflect.TypeFor[configuration.Storage]():
		r.storage(n, path)
	case t.Kind() == reflect.Struct:
		known := fields{}
		for i := range t.NumField() {
			field := t.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			known[or(name, strings.ToLower(field.Name))] = func(n *yaml.Node, path string) { r.unknownField(n, path, field.Type) }
		}
		r.mapping(n, path, known)
	case n.Decode(reflect.New(t).Interface()) != nil:
		r.problem(n, path, "want %s", t)
	}
}

func (r *reader) unknownField(n *yaml.Node, path string, t reflect.Type) {
	if why, isOurs := ours[strings.TrimPrefix(path, "registry.")]; isOurs {
		r.problem(n, path, "cannot be set: %s", why)
		return
	}
	r.noteSecret(n, path)
	r.unknown(n, path, t)
}

// storage holds one kind of storage, with parameters that its driver knows, and
// settings for all kinds.
func (r *reader) storage(n *yaml.Node, path string) {
	var kinds []string
	known := fields{}
	for name := range parameters {
		if strings.Contains(name, ".") {
			continue
		}
		known[name] = func(n *yaml.Node, path string) {
			if slices.Contains(drivers, name) {
				kinds = append(kinds, name)
			}
			r.parameter(n, path)
		}
	}
	before := len(r.problems)
	r.mapping(n, path, known)
	if len(kinds) != 1 && len(r.problems) == before {
		slices.Sort(kinds)
		r.problem(n, path, "want one kind of storage of %v, not %d", drivers, len(kinds))
	}
}

// parameter is a mapping below storage, or a single value in one.
func (r *reader) parameter(n *yaml.Node, path string) {
	if why, isOurs := ours[strings.TrimPrefix(path, "registry.")]; isOurs {
		r.problem(n, path, "cannot be set: %s", why)
		return
	}
	r.noteSecret(n, path)
	name := strings.TrimPrefix(path, "registry.storage.")
	names, isMapping := parameters[name]
	if name == "gcs.credentials" && n.Kind == yaml.MappingNode { // whatever Google puts there
		isMapping = true
		for i := 0; i < len(n.Content); i += 2 {
			names = append(names, n.Content[i].Value)
		}
	}
	if !isMapping {
		if n.Kind != yaml.ScalarNode {
			r.problem(n, path, "want a single value")
		}
		return
	}
	known := fields{}
	for _, name := range names {
		known[name] = r.parameter
	}
	r.mapping(n, path, known)
}

// noteSecret takes note that there is a secret in the file.
func (r *reader) noteSecret(n *yaml.Node, path string) {
	key := path[strings.LastIndexByte(path, '.')+1:]
	isSecret := slices.Contains(secrets, key) && n.Value != "" ||
		path == "registry.notifications.endpoints.headers" // Authorization is among them
	if isSecret && !isNull(n) {
		r.hasSecret = true
	}
}
