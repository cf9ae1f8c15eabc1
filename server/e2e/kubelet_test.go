package e2e

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

const kubeletDoc = "../../docs/kubelet.md"

// documented is the one YAML document of a kind that docs/kubelet.md has.
func documented(t *testing.T, kind string) *yaml.Decoder {
	t.Helper()
	doc, err := os.ReadFile(kubeletDoc)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, block := range regexp.MustCompile("(?s)( *)```yaml\n(.*?)\n *```").FindAllStringSubmatch(string(doc), -1) {
		text := strings.ReplaceAll("\n"+block[2], "\n"+block[1], "\n") // indented in a list
		for part := range strings.SplitSeq(text, "\n---\n") {
			var is struct{ Kind string }
			if err := yaml.Unmarshal([]byte(part), &is); err != nil {
				t.Fatal(err)
			}
			if is.Kind == kind {
				found = append(found, part)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d of kind %s, want one", kubeletDoc, len(found), kind)
	}
	return yaml.NewDecoder(strings.NewReader(found[0]))
}

type variable struct{ Name, Value string }

// The node as docs/kubelet.md sets it up: no home folder, and what the
// configuration says. Each entry of matchImages has to be an address that the
// program answers for, under just that name, with what the registry accepts.
func TestKubeletAsDocumented(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	var config struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Providers  []struct {
			Name                 string
			APIVersion           string `yaml:"apiVersion"`
			Args                 []string
			MatchImages          []string `yaml:"matchImages"`
			DefaultCacheDuration string   `yaml:"defaultCacheDuration"`
			Env                  []variable
		}
	}
	decoder := documented(t, "CredentialProviderConfig")
	decoder.KnownFields(true) // to the kubelet, too, another field is an error
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	if config.APIVersion != "kubelet.config.k8s.io/v1" || len(config.Providers) != 1 {
		t.Fatalf("the configuration is %+v", config)
	}
	provider := config.Providers[0]
	key := filepath.Join(t.TempDir(), "apikey")
	if err := os.WriteFile(key, []byte(p.APIKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := &machine{t: t, home: t.TempDir(), env: map[string]string{"DTZ_IDENTITY_URL": p.Identity, "TMPDIR": t.TempDir()}}
	for _, v := range provider.Env {
		if v.Name == "DTZ_API_KEY_FILE" {
			v.Value = key
		}
		node.env[v.Name] = v.Value
	}
	node.env["HOME"] = node.home // else the account's own would count
	if len(provider.MatchImages) < 2 {
		t.Errorf("matchImages is %q, which shows no port", provider.MatchImages)
	}
	for _, match := range provider.MatchImages {
		if _, err := url.Parse("https://" + match); err != nil {
			t.Errorf("with matchImages %q the kubelet would not start: %v", match, err)
		}
		request, err := json.Marshal(map[string]string{"kind": "CredentialProviderRequest", "apiVersion": provider.APIVersion, "image": match + "/team/app"})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			APIVersion    string
			CacheDuration string
			Auth          map[string]struct{ Username, Password string }
		}
		out := node.feed(string(request), provider.Name, provider.Args...)
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		cred := answer.Auth[match]
		if answer.APIVersion != provider.APIVersion || len(answer.Auth) != 1 || cred.Username != "bearer" {
			t.Errorf("%s: the answer is of %s, for %d registries, as user %q", match, answer.APIVersion, len(answer.Auth), cred.Username)
		}
		if got := p.status(t, cred.Password); got != 200 {
			t.Errorf("%s: the registry answers %d to the token", match, got)
		}
	}
	if got := p.called("/auth/apikey"); got != 1 {
		t.Errorf("the key was exchanged %d times, want once for all", got)
	}
}

// What the CronJob of docs/kubelet.md runs, up to what it hands to kubectl: the
// secret is one that the registry accepts, and there is none when the identity
// service refuses the key.
func TestPullSecretAsDocumented(t *testing.T) {
	testenv.Need(t, "curl", "jq", "bash")
	t.Parallel()
	p := startPlatform(t)
	var job struct {
		Spec struct {
			JobTemplate struct {
				Spec struct {
					Template struct {
						Spec struct {
							Containers []struct {
								Env           []variable
								Command, Args []string
							}
						}
					}
				}
			} `yaml:"jobTemplate"`
		}
	}
	if err := documented(t, "CronJob").Decode(&job); err != nil {
		t.Fatal(err)
	}
	container := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	if got := strings.Join(container.Command, " "); got != "sh -euc" || len(container.Args) != 1 {
		t.Fatalf("the container runs %q", got)
	}
	// Instead of a cluster, what kubectl is given is kept.
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >arguments\ncat >applied\n"
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, home: t.TempDir(), env: map[string]string{"PATH": dir + string(os.PathListSeparator) + os.Getenv("PATH")}}
	for _, v := range container.Env {
		m.env[v.Name] = v.Value
	}
	key := filepath.Join(dir, "apikey")
	maps.Copy(m.env, map[string]string{"IDENTITY": p.Identity, "REGISTRY": p.Registry, "KEY": key, "HOME": m.home})
	refresh := func(apiKey string) (result, string) {
		if err := os.WriteFile(key, []byte(apiKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := m.try("", "bash", "-euc", container.Args[0]) // the sh of Debian knows no pipefail
		applied, err := os.ReadFile(filepath.Join(m.home, "applied"))
		if err != nil {
			t.Fatal(err)
		}
		return r, string(applied)
	}

	if r, applied := refresh(strings.ToUpper(p.APIKey)); r.err == nil || applied != "" {
		t.Errorf("with a key that does not exist: %v\nand kubectl is given %d bytes", r, len(applied))
	}
	r, applied := refresh(p.APIKey)
	if r.err != nil {
		t.Fatal(r)
	}
	var secret struct {
		Kind, Type string
		Metadata   struct{ Name string }
		StringData map[string]string
	}
	var config struct {
		Auths map[string]struct{ Username, Password string }
	}
	if err := json.Unmarshal([]byte(applied), &secret); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(secret.StringData[".dockerconfigjson"]), &config); err != nil {
		t.Fatal(err)
	}
	cred := config.Auths[p.Registry]
	if secret.Kind != "Secret" || secret.Type != "kubernetes.io/dockerconfigjson" || secret.Metadata.Name != "dtz" || cred.Username != "bearer" {
		t.Errorf("the secret is a %s %s of type %s, for user %q", secret.Kind, secret.Metadata.Name, secret.Type, cred.Username)
	}
	if got := p.status(t, cred.Password); got != 200 {
		t.Errorf("the registry answers %d to the token in the secret", got)
	}
}
