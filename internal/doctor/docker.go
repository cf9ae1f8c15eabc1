package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// dockerConfig is Docker's config.json.
func (m *machine) dockerConfig(context.Context) Finding {
	if m.Docker.Path == "" {
		return failed("set HOME or DOCKER_CONFIG", "no home folder in which Docker's config.json could be")
	}
	if _, err := m.Docker.Helpers(); err != nil {
		return failed("mend that with an editor", "%v", err)
	}
	_, err := os.Stat(m.Docker.Path)
	there := !errors.Is(err, fs.ErrNotExist)
	if dir := m.getenv("DOCKER_CONFIG"); dir != "" && !there {
		return failed(session.Run(program+" configure")+", or unset DOCKER_CONFIG",
			"DOCKER_CONFIG is %s, and there is no config.json in it", dir)
	}
	if !there {
		return ok("no %s yet", m.Docker.Path)
	}
	return ok("%s", m.Docker.Path)
}

// dockerAuth is DOCKER_AUTH_CONFIG. Docker looks there before it asks a helper,
// for an address that it finds to the letter (docker/cli v28.3,
// cli/config/configfile: GetCredentialsStore).
func (m *machine) dockerAuth(context.Context) Finding {
	text := m.getenv("DOCKER_AUTH_CONFIG")
	if text == "" {
		return ok("DOCKER_AUTH_CONFIG is not set")
	}
	keys, err := dockerconfig.Secrets([]byte(text))
	if err != nil {
		return warning("unset DOCKER_AUTH_CONFIG", "DOCKER_AUTH_CONFIG is set and cannot be read (%v); Docker complains of it and goes on without", err)
	}
	var shadowed []string
	for _, t := range m.targets {
		if slices.Contains(keys, string(t.address)) {
			shadowed = append(shadowed, string(t.address))
		}
	}
	if len(shadowed) == 0 {
		return ok("DOCKER_AUTH_CONFIG is set, for other registries")
	}
	return failed("unset DOCKER_AUTH_CONFIG", "DOCKER_AUTH_CONFIG holds a credential for %s, and Docker asks no helper there", strings.Join(shadowed, ", "))
}

// wiring: whom Docker asks for the registry.
func (t *target) wiring(context.Context) Finding {
	helpers, err := t.Docker.Helpers()
	if err != nil {
		return failed("mend that with an editor", "%v", err)
	}
	configure := program + " configure --registry " + string(t.address)
	var stray []string // keys that Docker, which looks for host:port, never finds
	for key, helper := range helpers {
		address, err := config.ParseAddress(key)
		if err == nil && address == t.address && strings.Contains(key, "/") && dockerconfig.IsOurs(helper) {
			stray = append(stray, fmt.Sprintf("%q", key))
		}
	}
	slices.Sort(stray)
	helper, named := helpers[string(t.address)]
	switch {
	case helper == dockerconfig.HelperInWindows && len(t.findAll(t.getenv("PATH"), program+".exe")) == 0:
		return failed(session.Run(configure+" --yes")+" for the program here", "Docker is to ask %s.exe, in Windows, which is not on PATH", program)
	case helper == dockerconfig.HelperInWindows:
		return ok("Docker asks %s.exe, in Windows", program)
	case named && helper != dockerconfig.Helper:
		conflict := dockerconfig.ConflictError{Address: string(t.address), Helper: helper}
		return failed(session.Run(configure+" --yes"), "%v", &conflict)
	case !named && len(stray) > 0:
		return failed(session.Run(configure), "it stands in credHelpers as %s, which Docker never looks for: a key is host[:port]", strings.Join(stray, " and "))
	case !named && t.podmanOnly() != "":
		return skipped("podman asks this program, and there is no config.json of Docker's")
	case !named && t.source == "":
		return skipped("login comes first")
	case !named:
		return failed(session.Run(configure), "Docker does not ask this program for it")
	case len(stray) > 0:
		return warning("take that entry out of "+t.Docker.Path, "Docker asks this program; %s, in credHelpers too, is never looked for: a key is host[:port]", strings.Join(stray, " and "))
	}
	return ok("Docker asks this program")
}

// plaintext: docker login leaves secrets under auths where it finds no helper.
// With one, they serve nobody any more, but whoever reads the file.
func (t *target) plaintext(context.Context) Finding {
	keys, err := t.secretsIn(t.Docker)
	if err != nil {
		return failed("mend that with an editor", "%v", err)
	}
	if len(keys) == 0 {
		return ok("no secret in Docker's config.json")
	}
	remedy := fmt.Sprintf("take the entry %q out of auths in %s", keys[0], t.Docker.Path)
	use := "Docker uses it, unless credsStore names a program"
	if helpers, err := t.Docker.Helpers(); err == nil && helpers[string(t.address)] != "" {
		use = "Docker does not use it while credHelpers names a program"
		if len(keys) == 1 && keys[0] == string(t.address) && !t.bad.has("login") {
			// With a helper, Docker keeps the credential there and empties the entry.
			remedy = session.Run("docker login " + string(t.address))
		}
	}
	return warning(remedy+"; replace the secret if others could read that file",
		"auths in Docker's config.json holds a secret for it, unencrypted; %s", use)
}

func inWindows() Finding {
	return skipped(fmt.Sprintf("Docker asks the program in Windows; run %q", program+".exe doctor"))
}
