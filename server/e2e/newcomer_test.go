//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// published is the program as README installs it. Here the checkout stands in
// for the latest version of it.
const published = "github.com/DownToZero-Cloud/docker-credential-dtz/cmd/docker-credential-dtz@latest"

// Somebody who has never heard of DTZ has a machine with Docker, an image and
// README. Its three commands, word for word but for the registry's address, and
// what dtz-registry dev prints are all there is to go by.
func TestThreeCommandsOfREADME(t *testing.T) {
	testenv.Need(t, "docker", "keychain")
	t.Parallel()
	commands := commandsOfREADME(t)
	dev := startDevForPeople(t)
	for i, command := range commands {
		commands[i] = strings.ReplaceAll(command, "cr.dtz.rocks", dev["registry"])
	}
	if !strings.Contains(dev["text"], "  export DTZ_IDENTITY_URL="+dev["identity"]+"\n  "+strings.Join(commands, "\n  ")+"\n") {
		t.Errorf("dtz-registry dev does not print the commands of README, %q, but\n%s", commands, dev["text"])
	}

	m := newMachine(t).withDocker()
	if err := os.RemoveAll(filepath.Join(m.home, ".docker")); err != nil {
		t.Fatal(err)
	}
	image := strings.TrimPrefix(commands[2], "docker push ")
	m.build(image)
	bin := filepath.Join(m.home, "go", "bin")
	m.env["PATH"] = bin + string(os.PathListSeparator) + strings.TrimPrefix(m.env["PATH"], filepath.Dir(program("."))+string(os.PathListSeparator))
	m.env["DTZ_IDENTITY_URL"] = dev["identity"]

	install := strings.Replace(commands[0], published, "./cmd/docker-credential-dtz", 1)
	if install == commands[0] {
		t.Fatalf("README installs with %q", install)
	}
	m.installFromCheckout(strings.Fields(install))
	identity, err := url.Parse(dev["identity"])
	if err != nil {
		t.Fatal(err)
	}
	where := " at " + identity.Host
	if login := strings.Fields(commands[1]); exists(filepath.Join(bin, login[0])) {
		screen := m.atTerminal(append([]string{filepath.Join(bin, login[0])}, login[1:]...), []typed{
			{"Do you trust it? [y/N] ", "y", false}, // a registry that is not the platform's
			{"DTZ user name" + where + ": ", dev["user"], false},
			{"Password" + where + " (not shown): ", dev["password"], true},
		})
		if strings.Contains(screen, dev["password"]) {
			t.Error("the terminal shows the password")
		}
		if want := "Next: docker push " + dev["registry"] + "/IMAGE"; !strings.Contains(screen, want) {
			t.Errorf("login does not end with %q:\n%s", want, screen)
		}
	} else {
		t.Fatalf("%q did not install %s", install, login[0])
	}
	push := strings.Fields(commands[2])
	delete(m.env, "DTZ_IDENTITY_URL") // it chose at login; another terminal has none
	m.run(push[0], push[1:]...)

	m.run("docker", "rmi", image)
	m.run("docker", "pull", image)
}

func commandsOfREADME(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- three commands: [^\n]*-->\n```console\n(.*?)```\n").FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no block with the three commands")
	}
	var commands []string
	for line := range strings.Lines(string(block[1])) {
		command, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ ")
		if !found {
			t.Errorf("README shows %q between the commands", line)
		}
		commands = append(commands, command)
	}
	if len(commands) != 3 {
		t.Fatalf("README has %d commands, want three: %q", len(commands), commands)
	}
	return commands
}

// startDevForPeople starts dtz-registry dev and reads what it says to people:
// its values by their names, and the whole as text.
func startDevForPeople(t *testing.T) map[string]string {
	t.Helper()
	ready, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	dev := exec.Command(program("dtz-registry"), "dev", "--addr", "127.0.0.1:0", "--identity-addr", "127.0.0.1:0")
	dev.Env = []string{"PATH=" + os.Getenv("PATH")}
	dev.Stdout = stdout
	stop, err := testenv.Start(dev)
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	_ = ready.SetReadDeadline(time.Now().Add(time.Minute))
	said := map[string]string{}
	value := regexp.MustCompile(`^  ([a-z]+) {2,}(\S+)$`)
	in := bufio.NewScanner(ready)
	for in.Scan() {
		said["text"] += in.Text() + "\n"
		if found := value.FindStringSubmatch(in.Text()); found != nil {
			said[found[1]] = found[2]
		}
		if strings.Contains(in.Text(), "docker login") { // the last line
			return said
		}
	}
	t.Fatalf("dtz-registry dev says only (%v)\n%s", in.Err(), said["text"])
	return nil
}

// installFromCheckout runs go install there, for the person at m. What has been
// built and fetched already is shared: a test has no network.
func (m *machine) installFromCheckout(command []string) {
	m.t.Helper()
	shared, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	caches := strings.Fields(string(shared))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "../.."
	for name, value := range m.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, "GOCACHE="+caches[0], "GOMODCACHE="+caches[1], "GOFLAGS=-buildvcs=false", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%q: %v\n%s", command, err, out)
	}
}

// typed is what a person types when the terminal shows a question.
type typed struct {
	question, keys string
	hidden         bool // not before the terminal has stopped showing keys
}

// atTerminal runs a program at a terminal of its own, with somebody who answers,
// and returns what the terminal showed.
func (m *machine) atTerminal(command []string, answers []typed) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = m.home, []string{"TERM=dumb"}
	for name, value := range m.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	terminal, err := pty.Start(cmd)
	if err != nil {
		m.t.Fatal(err)
	}
	defer terminal.Close()
	var screen bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := terminal.Read(buf)
		screen.Write(buf[:n])
		if len(answers) > 0 && strings.HasSuffix(screen.String(), answers[0].question) {
			for answers[0].hidden && echoes(m.t, terminal) && ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
			if _, err := io.WriteString(terminal, answers[0].keys+"\n"); err != nil {
				m.t.Fatal(err)
			}
			answers = answers[1:]
		}
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) { // EIO: the program has ended
			m.t.Fatal(err)
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || len(answers) > 0 {
		m.t.Fatalf("%q: %v, with %d questions not asked:\n%s", command, err, len(answers), screen.String())
	}
	return screen.String()
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}
