package faults

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// Nor do a registry's, or what stands in files and in the environment.
func TestHostileSurroundingsReachNobody(t *testing.T) {
	testenv.Need(t, "keychain")
	keychain := testenv.Keychain(t)
	t.Run("a registry", func(t *testing.T) {
		t.Parallel()
		for status, body := range map[int]string{
			200: `{"imageCount":1,"serverUrl":` + asJSON(evilText) + `}`,
			401: `{"errors":[{"code":` + asJSON(evilText) + `,"message":` + asJSON(evilText) + `}]}`,
			403: `{"msg":` + asJSON(evilText) + `}`,
			503: strings.Repeat("[", 100_000),
		} {
			registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Www-Authenticate", "\x1b[31m\u202e")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			}))
			defer registry.Close()
			address := strings.TrimPrefix(registry.URL, "http://")
			m := NewMachineWith(t, NewService(t), keychain)
			for _, args := range [][]string{
				{"login", "--registry", address, "--yes", "--username", User, "--password-stdin", "--verbose"},
				{"configure", "--registry", address, "--yes", "--dry-run", "--verbose"},
				{"doctor", "--registry", address},
				{"doctor", "--registry", address, "--output", "json"},
			} {
				fit(t, fmt.Sprint(status, args), m.Run(Password, args...))
			}
		}
	})
	dir := "/" + strings.ReplaceAll(evil, "/", "")
	for _, name := range []string{
		"DTZ_IDENTITY_URL", "DTZ_CONTEXT_ID", "DTZ_TIMEOUT", "DTZ_STORE", "DTZ_API_KEY", "DTZ_API_KEY_FILE", "DTZ_ACCESS_TOKEN", "DTZ_REGISTRIES", "DTZ_API_KEY_FALLBACK",
		"DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR",
		"HTTPS_PROXY", "SSL_CERT_FILE", "DBUS_SESSION_BUS_ADDRESS", "TERM", "LANG", "BROWSER", "SSH_CONNECTION", "SUDO_USER", "PATH",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMachineWith(t, NewService(t), keychain)
			m.Setenv("DTZ_TIMEOUT", "3s")
			m.Setenv("DTZ_REGISTRIES", Registry)
			m.Login()
			values := []string{dir}
			if *soak {
				values = append(values, evil, strings.Repeat("a", 64<<10))
			}
			for _, value := range values {
				if strings.HasSuffix(name, "_DIR") || strings.HasSuffix(name, "_HOME") || name == "DOCKER_CONFIG" || name == "TMPDIR" {
					value = m.Home + "/" + value
				}
				m.Setenv(name, value)
				checkGet(t, "get", m.Run(Registry, "get"))
				for _, args := range [][]string{
					{"status", "--output", "json"},
					{"doctor", "--registry", Registry},
					{"configure", "--registry", Registry, "--yes", "--dry-run", "--verbose"},
					{"status"},
					{"doctor", "--registry", Registry, "--output", "json"},
					{"token", "--registry", Registry, "--verbose"},
					{"context", "list"},
				}[:many(3, 7)] {
					fit(t, strings.Join(args, " "), m.Run("", args...))
				}
				fit(t, "login", m.Run(Password, "login", "--registry", Registry, "--yes", "--username", User, "--password-stdin"))
			}
		})
	}
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		m := NewMachineWith(t, NewService(t), keychain)
		m.Login()
		bindings, err := os.ReadFile(m.ConfigPath())
		if err != nil {
			t.Fatal(err)
		}
		binding := func(name, value string) string {
			return fmt.Sprintf(`{"version":1,"logins":[{"identity":%s,"profile":%s,"store":"file"}],"bindings":{%q:{"identity":"http://127.0.0.1:1","profile":"default",%q:%s}}}`,
				asJSON(evil), asJSON(evil), Registry, name, asJSON(value))
		}
		for _, content := range []string{
			`{"credHelpers":{` + asJSON(evil) + `:` + asJSON(evil) + `},"auths":{` + asJSON(evil) + `:{"auth":"x"}},"credsStore":` + asJSON(evil) + `}`,
			evil, strings.Repeat(`{"auths":`, 100_000), `{"credHelpers":{"` + strings.Repeat("a", 64<<10) + `":"b"}}`,
			binding("context", evil), binding("identity", evil), binding("profile", evil), binding("apiKeyFile", dir), binding(evil, ""),
			`{"version":1,"` + strings.Repeat("a", 64<<10) + `":1}`,
		} {
			path := m.DockerConfig()
			if strings.HasPrefix(content, `{"version"`) {
				path = m.ConfigPath()
			} else if err := os.WriteFile(m.ConfigPath(), bindings, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			checkGet(t, "get", m.Run(Registry, "get"))
			for _, args := range [][]string{
				{"status"},
				{"doctor", "--output", "json"},
				{"configure", "--registry", Registry, "--yes", "--dry-run"},
				{"status", "--output", "json"},
				{"doctor"},
				{"list"},
				{"unconfigure", "--dry-run"},
			}[:many(3, 7)] {
				fit(t, fmt.Sprintf("%s with %.200q", args, content), m.Run("", args...))
			}
		}
	})
	t.Run("arguments", func(t *testing.T) {
		t.Parallel()
		m := NewMachineWith(t, NewService(t), keychain)
		m.Login()
		for _, value := range []string{evil, evil + "\xff", strings.Repeat("a", 64<<10)} {
			for _, args := range [][]string{
				{value},
				{"status", "--profile", value},
				{"status", "--output", value},
				{"status", "--" + value},
				{"help", value},
				{"token", "--registry", value},
				{"token", "--context", value},
				{"context", "use", value},
				{"configure", "--registry", value},
				{"configure", "--registry", Registry, "--yes", "--api-key-file", filepath.Join(m.Home, value)},
				{"logout", "--profile", value},
				{"completion", value},
				{"login", "--username", value, "--password-stdin"},
				{"login", "--web", "--client-id", value, "--no-browser"},
				{"login", "--profile", value, "--username", User, "--password-stdin"},
			} {
				fit(t, fmt.Sprintf("%.200q", args), m.Run(Password, args...))
			}
		}
	})
}

// many is how many of a table's columns are tried.
func many(short, long int) int {
	if *soak {
		return long
	}
	return short
}
