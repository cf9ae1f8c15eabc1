package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

const (
	dockerName = "Docker"
	podmanName = "podman"
)

// target is a file that names credential helpers.
type target struct {
	dockerconfig.File
	who   string // reads it, for people
	first string // file that is asked before it; "": none
}

// target is Docker's config.json, or containers' auth.json.
func (sys system) target(podman bool) (target, error) {
	home := sys.getenv(homeVariable())
	t, elsewhere := target{who: dockerName}, "DOCKER_CONFIG"
	if podman {
		t.who, elsewhere = podmanName, "REGISTRY_AUTH_FILE"
		t.Path, t.first = dockerconfig.ContainersPath(sys.getenv, home, runtime.GOOS, os.Getuid())
	} else {
		t.Path = dockerconfig.Path(sys.getenv, home)
	}
	if t.Path == "" {
		return target{}, withHint(fmt.Errorf("%s: neither %s nor %s is set", t.who, homeVariable(), elsewhere),
			"set %s", homeVariable())
	}
	sys.trace("%s's configuration is %s", t.who, t.Path)
	return t, nil
}

// change is one of a file of others, and of our bindings with it.
type change struct {
	target target
	edit   dockerconfig.Edit
	// bind changes the bindings for what is done to the file, and reports whether
	// nothing is left to do. It may be called more than once.
	bind    func(c *config.Config, done dockerconfig.Change) (settled bool)
	removes bool   // entries of ours
	byHand  string // does the same to the file, for people
	dryRun  bool
}

// carryOut makes the change or, in a dry run, prints it. Whatever fails in
// between, nobody asks us for an address that is not bound: what is added is
// bound first, and what is removed is unbound last.
func (sys system) carryOut(ctx context.Context, s *session.Session, c change) (dockerconfig.Change, error) {
	plan, err := c.target.Preview(c.edit)
	if err != nil {
		return plan, explainFile(err, c)
	}
	before, after, err := config.Preview(s.ConfigPath, func(conf *config.Config) error {
		if c.bind(conf, plan) {
			noteOrigin(conf, c.target.Path, plan)
		}
		return nil
	})
	if err != nil {
		return plan, err
	}
	if c.dryRun {
		shown := sys.printDiff(s.ConfigPath, before, after)
		shown = sys.printDiff(c.target.Path, dockerconfig.Masked(plan.Before), dockerconfig.Masked(plan.After)) || shown
		if !shown {
			sys.say("Nothing to change.")
		}
		return plan, nil
	}
	var bound []string
	if !c.removes {
		err := sys.rebind(ctx, s, func(conf *config.Config) {
			were := maps.Clone(conf.Bindings)
			c.bind(conf, plan)
			bound = changed(were, conf.Bindings)
		})
		if err != nil {
			return plan, err
		}
		sys.remember(ctx, s, c.target, plan) // first: we may not live to do it afterwards
	}
	done, err := c.target.Apply(c.edit)
	if err != nil {
		err = explainFile(err, c)
		if len(bound) > 0 {
			err = explainBound(err, c.target, bound)
		}
		return done, err
	}
	if len(done.Entries) > 0 {
		sys.trace("wrote %s", c.target.Path)
	}
	if c.removes {
		err := sys.rebind(ctx, s, func(conf *config.Config) {
			if c.bind(conf, done) {
				noteOrigin(conf, c.target.Path, done)
			}
		})
		return done, err
	}
	sys.remember(ctx, s, c.target, done)
	return done, nil
}

// remember keeps what unconfigure would want to know. A pipeline without a home
// has no place for that, and needs none.
func (sys system) remember(ctx context.Context, s *session.Session, t target, done dockerconfig.Change) {
	if err := sys.rebind(ctx, s, func(conf *config.Config) { noteOrigin(conf, t.Path, done) }); err != nil {
		sys.trace("what %s held before is not remembered: %v", t.Path, err)
	}
}

// changed are the bindings that are other than before, for people.
func changed(were, are map[config.Address]config.Binding) []string {
	var list []string
	for _, address := range slices.Sorted(maps.Keys(are)) {
		if b := are[address]; b != were[address] {
			list = append(list, served(address, b))
		}
	}
	return list
}

// served is an address and what serves it where configure has said so.
func served(address config.Address, b config.Binding) string {
	if b.APIKeyFile == "" {
		return string(address)
	}
	return fmt.Sprintf("%s with the API key in %s", address, b.APIKeyFile)
}

// explainBound adds what has been bound for a file that could not be written,
// and how that ends.
func explainBound(err error, t target, bound []string) error {
	command, hint := program+" unconfigure", hintOf(err)
	if t.who == podmanName {
		command += " --podman"
	}
	if hint != "" {
		hint += "; "
	}
	return withHint(err, "%salready served: %s (%s takes that back)", hint, join(bound), command)
}

// rebind changes our own file. Where that changes nothing, it need not be there,
// nor can be written.
func (sys system) rebind(ctx context.Context, s *session.Session, change func(*config.Config)) error {
	whole := func(conf *config.Config) error { change(conf); return nil }
	before, after, err := config.Preview(s.ConfigPath, whole)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	if err := config.Update(ctx, s.ConfigPath, whole); err != nil {
		return err
	}
	sys.trace("wrote %s", s.ConfigPath)
	return nil
}

// explainFile adds what can be done about a file that cannot be read, edited or
// written.
func explainFile(err error, c change) error {
	switch {
	case errors.As(err, new(*dockerconfig.ConflictError)):
		return err
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return withHint(err, "make it writable, or %s by hand", c.byHand)
	case errors.Is(err, dockerconfig.ErrChanged):
		return withHint(err, "try again when that program is done")
	case errors.As(err, new(syscall.Errno)) && !errors.Is(err, syscall.ENOTDIR): // a full disk, say
		return err
	}
	return withHint(err, "mend or replace %s: it has to be a file with an object in plain JSON", c.target.Path)
}

// maxOrigins is how many files are remembered before those that are gone are
// forgotten: till then a file may only be away, with the disk that it is on.
const maxOrigins = 100

// noteOrigin keeps what unconfigure has to know of a file while there is an
// entry of ours in it: that there is, and what stood in the first one's place.
func noteOrigin(c *config.Config, path string, done dockerconfig.Change) {
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	// A pipeline may have a folder of its own each time.
	if len(c.Origins) >= maxOrigins {
		maps.DeleteFunc(c.Origins, func(other string, _ config.Origin) bool {
			_, err := os.Stat(other)
			return other != path && errors.Is(err, fs.ErrNotExist)
		})
	}
	switch {
	case !hasOurs(done.Helpers):
		delete(c.Origins, path)
	case !hasOurs(done.HelpersBefore()):
		if c.Origins == nil {
			c.Origins = map[string]config.Origin{}
		}
		c.Origins[path] = config.Origin{Missing: string(done.Origin.Missing), Text: done.Origin.Text}
	}
}

func hasOurs(helpers map[string]string) bool {
	for _, helper := range helpers {
		if dockerconfig.IsOurs(helper) {
			return true
		}
	}
	return false
}

// originOf is what the file held before the first entry of ours, as far as that
// is known.
func originOf(c *config.Config, path string) (origin dockerconfig.Origin, known bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return dockerconfig.Origin{}, false
	}
	o, known := c.Origins[path]
	return dockerconfig.Origin{Missing: dockerconfig.Missing(o.Missing), Text: o.Text}, known
}

// printDiff prints how a file would change, in the unified format, and reports
// whether it would.
func (sys system) printDiff(path string, before, after []byte) bool {
	name := func(content []byte) string {
		if content == nil {
			return os.DevNull
		}
		return oneLine(path) // a line break in it would look like a line of the file
	}
	text := string(diff.Diff(name(before), before, name(after), after))
	if text == "" {
		return false
	}
	style := sys.styleFor(sys.stdout)
	_, text, _ = strings.Cut(text, "\n") // «diff OLD NEW», which the next two lines say again
	for line := range strings.Lines(text) {
		line = oneLine(strings.TrimRight(line, "\r\n"))
		switch {
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			line = style.bold(line)
		case strings.HasPrefix(line, "@@"):
			line = style.dim(line)
		case strings.HasPrefix(line, "+"):
			line = style.good(line)
		case strings.HasPrefix(line, "-"):
			line = style.bad(line)
		}
		fmt.Fprintln(sys.stdout, line)
	}
	return true
}

// warnUnlessOnPath says when Docker would not find the helper: it looks on PATH
// only.
func (sys system) warnUnlessOnPath(helper string) {
	name := "docker-credential-" + helper
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	where := "its folder"
	if self, err := os.Executable(); err == nil && name == program {
		where = filepath.Dir(self)
	}
	sys.warn(fmt.Sprintf("warning: Docker finds %s on PATH only, and it is not there; add %s to PATH", name, where))
}

// warnIfShadowed says when podman finds an answer before it comes to our entry.
func (sys system) warnIfShadowed(t target, addresses []config.Address) {
	if t.first == "" {
		return
	}
	for _, address := range addresses {
		answers, err := (dockerconfig.File{Path: t.first}).Answers(string(address), dockerconfig.Helper, dockerconfig.HelperInWindows)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			sys.warn(fmt.Sprintf("warning: podman asks another file first, which cannot be read: %v", err))
			return
		}
		if answers {
			sys.warn(fmt.Sprintf("warning: podman asks %s first, and a credential for %s is there; podman logout %s removes it", t.first, address, address))
		}
	}
}
