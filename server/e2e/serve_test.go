package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A replica is a running dtz-registry serve.
type replica struct {
	t    *testing.T
	addr string // host:port
	kill func() // at once, as when a machine dies
}

// serveConfig writes a configuration of serve for the contexts of p, with
// other verification settings and distribution's own configuration, and returns
// its path.
func (p *platform) serveConfig(t *testing.T, verification, images map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "dtz1.pem") // is named for the key's id
	if err := os.WriteFile(key, []byte(p.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]any{"contexts": p.Contexts, "keys": []string{key}, "identity_url": p.Identity}
	for name, value := range verification {
		settings[name] = value
	}
	config, err := json.Marshal(map[string]any{ // which is YAML, too
		"listen":       "127.0.0.1:0",
		"verification": settings,
		"registry":     images,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inFolder is distribution's configuration for images in a folder.
func inFolder(t *testing.T) map[string]any {
	return map[string]any{"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": t.TempDir()}}}
}

// startServe starts a replica that ends with t.
func startServe(t *testing.T, program, config string) *replica {
	t.Helper()
	stderr, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	serve := exec.Command(program, "serve", "--config", config)
	serve.Env = []string{"PATH=" + os.Getenv("PATH")}
	serve.Stderr = end
	stop, err := testenv.Start(serve)
	end.Close()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer // to be read once done is closed
	ready, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		defer stderr.Close()
		log := io.TeeReader(stderr, &said)
		for lines := json.NewDecoder(log); ; {
			var line struct{ Msg, Addr string }
			if lines.Decode(&line) != nil { // it ended, or a person is to read it
				break
			}
			if line.Msg == "ready" {
				ready <- line.Addr
			}
		}
		_, _ = io.Copy(io.Discard, log)
	}()
	r := &replica{t: t, kill: func() {
		_ = serve.Process.Kill() // fails when it has ended already
		stop()
		<-done
	}}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() || strings.Contains(said.String(), "DATA RACE") {
			t.Errorf("dtz-registry serve said:\n%s", &said)
		}
	})
	select {
	case r.addr = <-ready:
	case <-done:
		t.Fatal("dtz-registry serve ended before it was ready")
	case <-time.After(time.Minute):
		t.Fatal("dtz-registry serve is not ready")
	}
	return r
}

// ask makes a request, whose answer has to have a status, and returns header and
// body.
func (r *replica) ask(want int, method, path string, header map[string]string, body []byte) (http.Header, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.addr+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != want {
		r.t.Fatalf("%s %s = %d, want %d: %s", method, path, resp.StatusCode, want, answer[:min(len(answer), 300)])
	}
	return resp.Header, answer
}

func TestClientsOfServe(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	r := startServe(t, program("dtz-registry"), p.serveConfig(t, nil, inFolder(t)))
	p.Registry = r.addr

	mine := newMachine(t)
	mine.login(p)
	for _, tt := range []struct {
		client, part string
		use          func(t *testing.T, ref string)
	}{
		{"docker", "docker", func(*testing.T, string) { mine.withDocker().pushAndPull(p) }},
		{"crane", "", func(t *testing.T, ref string) {
			mine.run("crane", "push", image(t), ref)
			mine.run("crane", "pull", ref, filepath.Join(t.TempDir(), "pulled.tar"))
		}},
		{"skopeo", "skopeo", func(t *testing.T, ref string) {
			mine.run("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+image(t), "docker://"+ref)
			mine.run("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+ref, "dir:"+t.TempDir())
		}},
		{"podman", "podman", func(t *testing.T, ref string) {
			mine.run("crane", "push", image(t), ref)
			for _, args := range [][]string{{"pull", "--tls-verify=false", ref}, {"tag", ref, ref + ":again"}, {"push", "--tls-verify=false", ref + ":again"}} {
				mine.run("podman", append(mine.podmanFlags(), args...)...)
			}
		}},
	} {
		t.Run(tt.client, func(t *testing.T) {
			if tt.part != "" {
				testenv.Need(t, tt.part)
			}
			tt.use(t, r.addr+"/"+tt.client)
		})
	}

	t.Run("another context sees nothing", func(t *testing.T) {
		other := newMachine(t)
		other.login(p, "--context", p.Contexts[1])
		if got := strings.TrimSpace(other.run("crane", "catalog", r.addr)); got != "" {
			t.Errorf("the catalogue is %q, want nothing", got)
		}
		pull := other.try("", "crane", "manifest", r.addr+"/crane")
		if pull.err == nil || !strings.Contains(pull.stderr, "NAME_UNKNOWN") && !strings.Contains(pull.stderr, "MANIFEST_UNKNOWN") {
			t.Errorf("%v\nwant the image unknown", pull)
		}
	})
	t.Run("an API key in its header", func(t *testing.T) {
		_, body := r.ask(http.StatusOK, http.MethodGet, "/v2/_catalog", map[string]string{"X-API-KEY": p.APIKey}, nil)
		if !bytes.Contains(body, []byte(`"crane"`)) {
			t.Errorf("the catalogue is %s, want it to have crane", body)
		}
	})
}

// The person who reads it can tell his administrator what to grant.
func TestCraneShowsWhichRoleIsMissing(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	const role = "https://dtz.rocks/containerregistry/somebodyelse/"
	r := startServe(t, program("dtz-registry"), p.serveConfig(t, map[string]any{
		"roles": map[string]any{"admin": []string{role + "{context_id}"}},
	}, inFolder(t)))
	p.Registry = r.addr
	m := newMachine(t)
	m.login(p)
	pull := m.try("", "crane", "manifest", r.addr+"/hello")
	if want := "missing role " + role + p.Contexts[0]; pull.err == nil || !strings.Contains(pull.stderr, "DENIED") || !strings.Contains(pull.stderr, want) {
		t.Errorf("%v\nwant DENIED and %q", pull, want)
	}
}
