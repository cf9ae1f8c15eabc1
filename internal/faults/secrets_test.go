package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// Echoes answers with what it was sent, as some proxies do.
var Echoes = Fault{Name: "echoes", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
	body := new(strings.Builder)
	_ = r.Write(body)
	msg, _ := json.Marshal(map[string]string{"msg": body.String()})
	Answers(http.StatusBadRequest, "application/json", string(msg)).answer(s, w, r)
}}

// Whatever the identity service does, and whenever the person has had enough of
// it: a password, API key or token is in no output but the answers of get, token
// and kubelet, in no file in the open, on no command line, in no environment
// that a program of ours inherits, and no core file is left.
func TestSecretsStaySecretWhateverFails(t *testing.T) {
	testenv.Need(t, "keychain")
	rnd := newRand(t)
	rounds := 1
	if *soak {
		rounds = 40
	}
	c := NewCanaries(t)
	c.Add(Password, "the password")
	c.Add(wrongPassword, "the wrong password")
	c.Add(wrongKey, "the refused API key")
	t.Cleanup(c.Processes())
	for range rounds {
		for _, f := range append(All(), Works, Echoes) {
			rnd := rand.New(rand.NewPCG(rnd.Uint64(), 0))
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				keepSecrets(t, c, f, rnd)
			})
		}
	}
}

const (
	wrongPassword = "wrong canary password: 50% off & more?"
	wrongKey      = "apikey-refusedcanary000000000"
)

func keepSecrets(t *testing.T, c *Canaries, f Fault, rnd *rand.Rand) {
	s := NewService(t)
	m := NewMachine(t, s)
	m.Setenv("DTZ_TIMEOUT", "1s")
	key, err := s.Identity.CreateKey(Subject, "", "canary")
	if err != nil {
		t.Fatal(err)
	}
	c.Add(key, "the API key")
	token, err := s.Identity.Issue("identity-bob12345", "context-bob12345")
	if err != nil {
		t.Fatal(err)
	}
	c.Add(token, "the token given")

	var mu sync.Mutex
	run := func(stdin string, args ...string) Outcome {
		mu.Lock()
		enough := time.Duration(float64(2*time.Second) * (0.5 + rnd.Float64()))
		mu.Unlock()
		p := m.Start(strings.NewReader(stdin), args...)
		enoughOf := time.AfterFunc(enough, func() { _ = p.cmd.Process.Signal(os.Interrupt) }) // it may have ended
		defer enoughOf.Stop()
		return p.Wait()
	}
	handsOut := func(o Outcome) {
		c.Output(o.Stderr)
		c.Answer(o.Stdout)
		for _, part := range strings.FieldsFunc(o.Stdout, func(r rune) bool { return strings.ContainsRune("\"{}: \n,", r) }) {
			if strings.Count(part, ".") == 2 && len(part) > 200 {
				c.Add(part, "the token handed out") // from now on it is a secret too
			}
		}
	}
	m.Login("--keep")
	_, o := m.Get()
	handsOut(o)
	m.Age(30 * time.Hour)
	s.Break(f)

	store := func(user, secret string) string {
		return fmt.Sprintf(`{"ServerURL":%q,"Username":%q,"Secret":%q}`, Registry, user, secret)
	}
	login := []string{"login", "--registry", Registry, "--yes", "--verbose"}
	password := append(slices.Clip(login), "--username", User, "--password-stdin")
	request := fmt.Sprintf(`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderRequest","image":"%s/app"}`, Registry)
	type call struct {
		stdin string
		args  []string
	}
	answers := []call{{Registry, []string{"get"}}, {"", []string{"token", "--verbose"}}, {"", []string{"token", "--header"}}, {request, []string{"kubelet"}}}
	silent := []call{
		{Password, password},
		{wrongPassword, password},
		{Password, append(slices.Clip(password), "--keep", "--profile", "another")},
		{key, append(slices.Clip(login), "--api-key-stdin")},
		{wrongKey, append(slices.Clip(login), "--api-key-stdin")},
		{store("bearer", token), []string{"store"}},
		{store("apikey", key), []string{"store"}},
		{store("apikey", wrongKey), []string{"store"}},
		{"", []string{"status", "--verbose"}},
		{"", []string{"doctor", "--verbose"}},
		{"", []string{"doctor", "--output", "json"}},
		{"", []string{"context", "list", "--verbose"}},
		{"", []string{"context", "use", Context2, "--verbose"}},
		{"", []string{"configure", "--registry", Registry, "--verbose"}},
	}
	rnd.Shuffle(len(silent), func(i, j int) { silent[i], silent[j] = silent[j], silent[i] })
	if !*soak {
		silent = silent[:3]
	}
	var running sync.WaitGroup
	for _, a := range answers {
		running.Go(func() { handsOut(run(a.stdin, a.args...)) })
	}
	for _, a := range silent {
		running.Go(func() { o := run(a.stdin, a.args...); c.Output(o.Stdout + o.Stderr) })
	}
	running.Wait()
	// The same with an API key of the environment, in which programs are started.
	m.Setenv("DTZ_API_KEY", key)
	running.Go(func() { handsOut(run(Registry, "get")) })
	for _, command := range []string{"status", "doctor"} {
		running.Go(func() { o := run("", command, "--verbose"); c.Output(o.Stdout + o.Stderr) })
	}
	running.Wait()
	m.Unsetenv("DTZ_API_KEY")
	o = run("", "logout", "--all", "--verbose")
	c.Output(o.Stdout + o.Stderr)

	c.Files(m.main)
	c.Files(m.env["XDG_RUNTIME_DIR"])
}
