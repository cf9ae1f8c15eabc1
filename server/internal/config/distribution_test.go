package config

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Distribution's drivers pass over what they do not know in silence, so that
// what they know has to be known here.
func TestParametersAreTheDrivers(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/distribution/distribution/v3").Output()
	if err != nil {
		t.Fatal("the source of distribution, which is compiled in, is not at hand: ", err)
	}
	name := regexp.MustCompile(`(?:parameters(?:\[|, ?)|mapstructure:)"([a-z0-9_]+)"`)
	for driver, kind := range map[string]string{"filesystem": "filesystem", "s3-aws": "s3", "gcs": "gcs", "azure": "azure"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "registry/storage/driver", driver, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source of %s (%v)", driver, err)
		}
		asked := map[string]bool{}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range name.FindAllStringSubmatch(string(source), -1) {
				asked[found[1]] = true
			}
		}
		known := map[string]bool{}
		for _, name := range slices.Concat(parameters[kind], parameters[kind+".credentials"]) {
			known[name] = true
		}
		if !maps.Equal(asked, known) {
			t.Errorf("%s: known are %v, the driver asks for %v", kind, slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(asked)))
		}
	}
}

func TestEachCopyOfDistributionsIsItsOwn(t *testing.T) {
	c, _, err := parse("dtz.yaml", (minimal + "registry: {storage: {filesystem: {rootdirectory: /somewhere}}, http: {headers: {X-A: [b]}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.Distribution(), c.Distribution()
	first.Storage["filesystem"]["rootdirectory"] = "/elsewhere"
	first.HTTP.Headers.Set("X-A", "c")
	if got := second.Storage.Parameters()["rootdirectory"]; got != "/somewhere" || second.HTTP.Headers.Get("X-A") != "b" {
		t.Errorf("the second copy changes with the first: %v", got)
	}
	if first.HTTP.Secret == "" || first.HTTP.Secret != second.HTTP.Secret {
		t.Error("the secret of uploads differs between two apps of one process")
	}
}

// Distribution's own program obeys these, so that somebody may count on them.
func TestVariablesThatDoNotCountAreNamed(t *testing.T) {
	t.Setenv("REGISTRY_AUTH_HTPASSWD_REALM", "x")
	t.Setenv("REGISTRY_HTTP_ADDR", ":5000")
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
	t.Setenv("REGISTRY_HTTP_SECRET", "which counts")
	t.Setenv("REGISTRY_PORT", "tcp://10.0.0.1:80") // as Kubernetes sets it
	_, warnings, err := parse("dtz.yaml", minimal)
	if err != nil || len(warnings) != 3 {
		t.Fatalf("%v, %v, want three warnings", warnings, err)
	}
	for i, want := range []string{"REGISTRY_AUTH_HTPASSWD_REALM", "REGISTRY_HTTP_ADDR", "REGISTRY_STORAGE_DELETE_ENABLED"} {
		if !strings.Contains(string(warnings[i]), want+" in the environment does not count: ") {
			t.Errorf("%s, want it to name %s", warnings[i], want)
		}
	}
}

func TestImagesHaveAPlace(t *testing.T) {
	for text, want := range map[string]any{
		minimal:                             defaultRoot,
		minimal + "registry: {storage: }\n": defaultRoot,
		minimal + "registry: {storage: {filesystem: }}":                         defaultRoot,
		minimal + "registry: {storage: {filesystem: {maxthreads: 50}}}":         defaultRoot,
		minimal + "registry: {storage: {filesystem: {rootdirectory: /images}}}": "/images",
	} {
		c, _, err := parse("dtz.yaml", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Distribution().Storage.Parameters()["rootdirectory"]; got != want {
			t.Errorf("%s: images lie in %v, want %v", text, got, want)
		}
	}
}

func TestSecretOfUploadsIsMissed(t *testing.T) {
	const s3 = "registry: {storage: {s3: {region: here, bucket: images}}"
	for text, want := range map[string]int{
		minimal:              0,
		minimal + s3 + "}\n": 1,
		minimal + s3 + ", http: {secret: of all}}\n":    0,
		minimal + "registry: {storage: {inmemory: }}\n": 0,
	} {
		if _, warnings, err := parse("dtz.yaml", text); err != nil || len(warnings) != want {
			t.Errorf("%s: warnings %v, %v, want %d", text, warnings, err, want)
		}
	}
}

// As with distribution's own program, secrets may come from the environment.
func TestEnvironment(t *testing.T) {
	t.Setenv("REGISTRY_HTTP_SECRET", "of all")
	t.Setenv("REGISTRY_STORAGE_S3_SECRETKEY", "canary")
	c, warnings, err := parse("dtz.yaml", minimal+"registry: {storage: {s3: {region: here, bucket: images}}}\n")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, %v, want none", warnings, err)
	}
	// All apps of a process have one configuration, whatever becomes of it.
	t.Setenv("REGISTRY_HTTP_SECRET", "of nobody")
	if d := c.Distribution(); d.HTTP.Secret != "of all" || d.Storage.Parameters()["secretkey"] != "canary" {
		t.Error("the environment does not count")
	}
	_, _, err = parse("dtz.yaml", minimal)
	if err == nil || !strings.HasPrefix(err.Error(), "dtz.yaml:1: registry: ") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a second kind of storage in the environment: %v, want an error", err)
	}
}

func BenchmarkDistribution(b *testing.B) {
	c, _, err := parse("dtz.yaml", minimal)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Distribution()
	}
}
