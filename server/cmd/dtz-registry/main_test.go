package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// asMain makes the test binary the program itself.
const asMain = "DTZ_REGISTRY_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is dtz-registry in a process of its own.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *output
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &program{t: t, cmd: exec.CommandContext(ctx, self, args...)}
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stderr = newOutput(stderr)
	t.Cleanup(func() {
		cancel()
		_ = p.wait() // no error but that it has ended already
	})
	return p
}

// wait is for the end of the program.
func (p *program) wait() error {
	for range p.stderr.news { // Wait may be called only when all has been read
	}
	return p.cmd.Wait()
}

// output collects what a program writes.
type output struct {
	mu   sync.Mutex
	text []byte
	news chan struct{} // gets a value when there is more, and is closed at the end
}

func newOutput(from io.Reader) *output {
	o := &output{news: make(chan struct{}, 1)}
	go func() {
		defer close(o.news)
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			o.mu.Lock()
			o.text = append(o.text, buf[:n]...)
			o.mu.Unlock()
			if err != nil {
				return
			}
			select {
			case o.news <- struct{}{}:
			default:
			}
		}
	}()
	return o
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// startDev is dev on free ports, and the line that it prints.
func startDev(t *testing.T, args ...string) (p *program, line string) {
	t.Helper()
	p = start(t, append([]string{"dev", "--output", "json", "--addr", "127.0.0.1:0", "--identity-addr", "127.0.0.1:0"}, args...)...)
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		_ = p.wait()
		t.Fatalf("%v; standard error: %s", err, p.stderr)
	}
	return p, line
}

type ready struct {
	Registry, Identity, Username, Password, APIKey, PublicKey string
	Contexts                                                  []string
}

func parse(t *testing.T, line string) ready {
	t.Helper()
	var r ready
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return r
}

// end sends a signal and returns what else came on standard output.
func (p *program) end(signal os.Signal) (rest string, err error) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	left, err := io.ReadAll(p.stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(left), p.wait()
}

func TestJSONIsOneLineWithEverything(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows knows no SIGTERM")
	}
	p, line := startDev(t)
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &members); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"apiKey", "contexts", "identity", "password", "publicKey", "registry", "username"}; !slices.Equal(names, want) {
		t.Errorf("the line has the members %v, want %v", names, want)
	}
	r := parse(t, line)
	if base, err := oauth.CheckBaseURL(r.Identity); base != r.Identity || err != nil {
		t.Errorf("DTZ_IDENTITY_URL cannot be %q: %v", r.Identity, err)
	}
	key, err := registry.ParseKeyPEM("dtz1", []byte(r.PublicKey))
	if err != nil {
		t.Fatalf("the public key: %v", err)
	}
	client := &oauth.Client{BaseURL: r.Identity}
	token, err := client.Password(t.Context(), r.Username, secret.String(r.Password))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := registry.NewVerifier(registry.Config{Issuer: "dtz.rocks", Audience: "dtz.rocks", Keys: []registry.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	profile, err := verifier.Verify(t.Context(), token.Access.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Contexts) != 2 || profile.Context != r.Contexts[0] || token.Lifetime.Round(time.Hour) != 24*time.Hour {
		t.Errorf("a token in %s for %v, contexts %v; want the first of two for a day", profile.Context, token.Lifetime, r.Contexts)
	}
	if got := status(t, r.Registry, "bearer", token.Access.Reveal()); got != 200 {
		t.Errorf("the registry answers the token with %d, want 200", got)
	}
	if got := status(t, r.Registry, "apikey", r.APIKey); got != 200 {
		t.Errorf("the registry answers the API key with %d, want 200", got)
	}
	if got := status(t, r.Registry, "bearer", "nonsense"); got != 401 {
		t.Errorf("the registry answers nonsense with %d, want 401", got)
	}
	rest, err := p.end(syscall.SIGTERM)
	if rest != "" || err != nil {
		t.Errorf("SIGTERM ends it with %v and %q on standard output, want exit 0 and nothing", err, rest)
	}
}

func TestInterruptEndsItToo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot send an interrupt to one process")
	}
	p, _ := startDev(t)
	if rest, err := p.end(os.Interrupt); rest != "" || err != nil {
		t.Errorf("SIGINT ends it with %v and %q on standard output, want exit 0 and nothing", err, rest)
	}
}

// A real second has to pass here: with no leeway the token ends with it.
func TestTokenLifetimeIsObeyed(t *testing.T) {
	_, line := startDev(t, "--token-lifetime", "1s")
	r := parse(t, line)
	token, err := (&oauth.Client{BaseURL: r.Identity}).Password(t.Context(), r.Username, secret.String(r.Password))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(token.Claims.Expires))
	if status, body := login(t, r.Registry, "bearer", token.Access.Reveal()); status != 401 || !strings.Contains(body, "token expired") {
		t.Errorf("the registry answers the expired token with %d %s, want 401 that says so", status, body)
	}
}

func TestDataIsKept(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows knows no SIGTERM")
	}
	data := t.TempDir()
	first, line := startDev(t, "--data", data)
	before := parse(t, line)
	if _, err := first.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, line = startDev(t, "--data", data)
	if after := parse(t, line); after.Password != before.Password || status(t, after.Registry, "apikey", before.APIKey) != 200 {
		t.Error("a restart makes other credentials")
	}
}

// status is what the registry answers to a client that logs in.
func status(t *testing.T, registry, username, password string) int {
	t.Helper()
	code, _ := login(t, registry, username, password)
	return code
}

func login(t *testing.T, registry, username, password string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+registry+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(username, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestUsage(t *testing.T) {
	const (
		lifetimeWanted = `for "--token-lifetime" flag: want whole seconds, at least one, like 90s or 24h`
		addressWanted  = "want a loopback address and a port, like 127.0.0.1:5000"
	)
	tests := []struct {
		args   string
		code   int
		stdout string // a part of it; "" means none at all
		stderr string // likewise
	}{
		{"", 0, "dtz-registry [command]", ""},
		{"--version", 0, "dtz-registry ", ""},
		{"completion bash", 0, "bash completion", ""},
		{"dev --help", 0, "--token-lifetime", ""},
		{"nonsense", 2, "", `dtz-registry: unknown command "nonsense"`},
		{"dev nonsense", 2, "", "dtz-registry: unknown command"},
		{"dev --nonsense", 2, "", "dtz-registry: unknown flag: --nonsense"},
		{"dev --output yaml", 2, "", "want text or json"},
		{"dev --token-lifetime soon", 2, "", lifetimeWanted},
		{"dev --token-lifetime 0s", 2, "", lifetimeWanted},
		{"dev --token-lifetime -5s", 2, "", lifetimeWanted},
		{"dev --token-lifetime 1500ms", 2, "", lifetimeWanted},
		{"dev --addr 0.0.0.0:0", 2, "", `invalid argument "0.0.0.0:0" for "--addr" flag: ` + addressWanted},
		{"dev --addr 5999", 2, "", `invalid argument "5999" for "--addr" flag: ` + addressWanted},
		{"dev --addr=", 2, "", `invalid argument "" for "--addr" flag: ` + addressWanted},
		{"dev --addr 127.0.0.1:0 --identity-addr :0", 2, "", `invalid argument ":0" for "--identity-addr" flag: ` + addressWanted},
		{"dev --addr 127.0.0.1:0 --identity-addr 127.0.0.1:0 --data main.go", 1, "", "dtz-registry: mkdir main.go"},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(tt.args), nil, &stdout, &stderr)
		if code != tt.code {
			t.Errorf("dtz-registry %s = exit %d (%s), want %d", tt.args, code, &stderr, tt.code)
		}
		for name, got := range map[string]struct{ got, want string }{"output": {stdout.String(), tt.stdout}, "error": {stderr.String(), tt.stderr}} {
			if !strings.Contains(got.got, got.want) || (got.got == "") != (got.want == "") {
				t.Errorf("dtz-registry %s: standard %s %q, want %q", tt.args, name, got.got, got.want)
			}
		}
	}
}

func TestTextShowsWhatToType(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stdout := newSignalWriter()
	var stderr bytes.Buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"dev", "--addr", "127.0.0.1:0", "--identity-addr", "127.0.0.1:0"}, nil, stdout, &stderr)
	}()
	select {
	case <-stdout.ready:
	case code := <-done:
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit %d: %s, want 0", code, &stderr)
	}
	text := stdout.String()
	for _, want := range []string{
		"DTZ_IDENTITY_URL=http://127.0.0.1:",
		"/api/2021-02-21\n", "docker-credential-dtz login --registry 127.0.0.1:",
		" --username dev --password-stdin\n",
		" docker login 127.0.0.1:", " --username apikey --password-stdin\n",
		"docker push 127.0.0.1:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

// signalWriter is a buffer that says when the last line has come.
type signalWriter struct {
	bytes.Buffer
	ready chan struct{}
	once  sync.Once
}

func newSignalWriter() *signalWriter { return &signalWriter{ready: make(chan struct{})} }

func (w *signalWriter) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if bytes.HasSuffix(w.Bytes(), []byte("--username apikey --password-stdin\n")) {
		w.once.Do(func() { close(w.ready) })
	}
	return n, err
}
