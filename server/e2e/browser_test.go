package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A window of a browser with nothing in it from before.
type window struct {
	t   *testing.T
	ctx context.Context
}

func newWindow(t *testing.T) *window {
	t.Helper()
	testenv.Need(t, "chromium")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // which root cannot have
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)...)
	t.Cleanup(stop)
	ctx, closeWindow := chromedp.NewContext(ctx)
	t.Cleanup(closeWindow)
	return &window{t, ctx}
}

func (w *window) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, steps...); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// ask evaluates JavaScript, which the page itself may not have.
func ask[T any](w *window, expression string) T {
	w.t.Helper()
	value, err := chromedp.Run(w.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		w.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// logIn is what a person does at the login page.
func (w *window) logIn(username, password string) {
	w.t.Helper()
	w.do("logging in",
		chromedp.WaitVisible(chromedp.CSS("#username")),
		chromedp.SendKeys(chromedp.CSS("#username"), username),
		chromedp.SendKeys(chromedp.CSS("#password"), password+"\n"))
}

// complaints are what the browser notes in its console, from now on.
func (w *window) complaints() func() []string {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	events := chromedp.Events(ctx, log.EntryAdded)
	var entries []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event, err := range events {
			if err != nil {
				return
			}
			entries = append(entries, event.Entry.Text+" "+event.Entry.URL)
		}
	}()
	return func() []string {
		cancel()
		<-done
		return entries
	}
}

// prefer sets what the user has told his system.
func (w *window) prefer(scheme, motion string) {
	w.t.Helper()
	w.do("preferring "+scheme, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme},
				{Name: "prefers-reduced-motion", Value: motion},
			},
		})
		return chromedp.Void{}, err
	})
}

// picture leaves a picture of the window for people to look at: go test
// -artifacts keeps it.
func (w *window) picture(name string) {
	w.t.Helper()
	png, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.t.ArtifactDir(), name+".png"), png, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// contrast is the least that any text has against what is behind it (WCAG 2.2,
// relative luminance and contrast ratio), and which text that is.
const contrast = `(() => {
	const rgb = (color) => color.match(/[\d.]+/g).map(Number);
	const luminance = (color) => {
		const [r, g, b] = rgb(color).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const behind = (element) => {
		for (let e = element; e; e = e.parentElement) {
			const color = getComputedStyle(e).backgroundColor;
			if (!(rgb(color)[3] === 0)) return color;
		}
		return "rgb(255, 255, 255)";
	};
	let least = {ratio: 21, text: ""};
	for (const e of document.body.querySelectorAll("h1, h2, p, dt, dd, footer, code")) {
		const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < least.ratio) least = {ratio, text: e.textContent};
	}
	return least;
})()`

// wantReadable checks the page in both colour schemes, and leaves pictures.
func (w *window) wantReadable(name string) {
	w.t.Helper()
	backgrounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		w.prefer(scheme, "reduce")
		w.picture(name + "-" + scheme)
		backgrounds[scheme] = ask[string](w, `getComputedStyle(document.body).backgroundColor`)
		least := ask[struct {
			Ratio float64
			Text  string
		}](w, contrast)
		if least.Ratio < 4.5 || least.Text == "" {
			w.t.Errorf("%s: the contrast of %q is %.1f, want 4.5 or more", scheme, least.Text, least.Ratio)
		}
	}
	if backgrounds["light"] == backgrounds["dark"] {
		w.t.Errorf("the background is %s in both schemes", backgrounds["light"])
	}
	if moving := ask[int](w, `document.getAnimations().length`); moving != 0 {
		w.t.Errorf("%d things move before him who wants none to", moving)
	}
	if lang, headings := ask[string](w, `document.documentElement.lang`), ask[int](w, `document.querySelectorAll("h1").length`); lang != "en" || headings != 1 {
		w.t.Errorf("the page has the language %q and %d headings, want en and one", lang, headings)
	}
}

// startLogin starts docker-credential-dtz login --web, and returns the address
// to visit and how it ends.
func (m *machine) startLogin(p *platform, flags ...string) (address string, wait func() result) {
	m.t.Helper()
	m.env["DTZ_IDENTITY_URL"] = p.Identity
	args := append([]string{"login", "--web", "--registry", p.Registry, "--yes"}, flags...)
	cmd := exec.CommandContext(m.t.Context(), program("docker-credential-dtz"), args...)
	cmd.Dir = m.home
	for name, value := range m.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill() })
	var said strings.Builder
	lines := bufio.NewReader(io.TeeReader(stderr, &said))
	for address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			m.t.Fatalf("login --web ended: %s", said.String())
		}
		if strings.HasPrefix(line, "  http") {
			address = strings.TrimSpace(line)
		}
	}
	return address, func() result {
		_, _ = io.Copy(io.Discard, lines)
		err := cmd.Wait()
		return result{cmd.String(), stdout.String(), said.String(), err}
	}
}

func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	w := newWindow(t)
	p := startPlatform(t)
	m := newMachine(t)
	address, wait := m.startLogin(p, "--context", p.Contexts[1])
	w.do("opening the window", chromedp.EmulateViewport(1024, 768), chromedp.Navigate(address))
	complaints := w.complaints()
	w.logIn(p.Username, p.Password)
	w.do("coming back", chromedp.WaitVisible(chromedp.CSS("h1")), chromedp.WaitVisible(chromedp.CSS("dl")))

	r := wait()
	if r.err != nil || !strings.Contains(r.stderr, "in context "+p.Contexts[1]) || r.stdout != "" {
		t.Fatal(r)
	}
	text := ask[string](w, `document.querySelector("main").innerText`)
	for _, want := range []string{"You are logged in", p.Username, p.Contexts[1], "go back to the terminal"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page says %q, want %q in it", text, want)
		}
	}
	if status := ask[string](w, `document.querySelector("[role=status]").innerText`); !strings.Contains(status, "You are logged in") {
		t.Errorf("a screen reader is told %q", status)
	}
	shown, err := url.Parse(ask[string](w, `location.href`))
	if err != nil || shown.Hostname() != "127.0.0.1" || shown.RawQuery != "" || shown.Fragment != "" {
		t.Errorf("the address bar shows %s (%v), want an address of this machine without anything behind it", shown, err)
	}
	if html := ask[string](w, `document.documentElement.outerHTML`); strings.Contains(html, m.get(p).Secret) {
		t.Error("the token is in the page")
	}
	w.wantReadable("logged-in")
	w.do("a phone's screen", chromedp.EmulateViewport(360, 640))
	w.picture("logged-in-phone")
	if wide := ask[bool](w, `document.documentElement.scrollWidth > innerWidth`); wide {
		t.Error("a phone has to scroll sideways")
	}
	for _, entry := range complaints() {
		if strings.Contains(entry, "Content Security Policy") {
			t.Errorf("the browser complains: %s", entry)
		}
	}
}

// Who already has a session in the browser is not asked again; what fails is
// said where the person looks.
func TestBrowserLoginIsRefused(t *testing.T) {
	t.Parallel()
	w := newWindow(t)
	p := startPlatform(t)
	m := newMachine(t)
	address, wait := m.startLogin(p, "--context", p.Contexts[0])
	w.do("opening the window", chromedp.EmulateViewport(1024, 768), chromedp.Navigate(address))
	w.logIn(p.Username, p.Password)
	w.do("coming back", chromedp.WaitVisible(chromedp.CSS("dl")))
	if r := wait(); r.err != nil {
		t.Fatal(r)
	}

	address, wait = m.startLogin(p, "--context", p.Contexts[0])
	w.do("visiting a second time", chromedp.Navigate(address), chromedp.WaitVisible(chromedp.CSS("dl")))
	if r := wait(); r.err != nil {
		t.Fatal(r)
	}

	p.breaks("/oauth/token")
	address, wait = m.startLogin(p, "--context", p.Contexts[0])
	w.do("visiting a third time", chromedp.Navigate(address), chromedp.WaitVisible(chromedp.CSS("h1")))
	r := wait()
	if r.err == nil || !strings.Contains(r.stderr, "500 Internal Server Error") {
		t.Errorf("the code is not traded: %v", r)
	}
	text := ask[string](w, `document.querySelector("main").innerText`)
	for _, want := range []string{"You are not logged in", "500 Internal Server Error", "docker-credential-dtz login"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page says %q, want %q in it", text, want)
		}
	}
	w.wantReadable("not-logged-in")
}
