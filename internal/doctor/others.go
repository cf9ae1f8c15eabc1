package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// Programs other than Docker read its config.json too, and before that files of
// their own.

// podman: podman, skopeo and buildah look into containers' auth.json before they
// look into Docker's (containers-auth.json(5)). To podman and buildah,
// DOCKER_CONFIG names a file as REGISTRY_AUTH_FILE does to all three
// (containers/common, pkg/auth: GetDefaultAuthFile): before podman 4.4 and
// buildah 1.29 that is the first one they look into, since then the only one
// (containers/image 5.24.0, pkg/docker/config: getAuthFilePaths).
func (t *target) podman(context.Context) Finding {
	who, alone := "podman and skopeo", t.getenv("DOCKER_CONFIG") != "" && t.getenv("REGISTRY_AUTH_FILE") == ""
	if alone {
		who = "skopeo"
	}
	configure := fmt.Sprintf("%s configure --podman --registry %s", program, t.address)
	for _, path := range t.Podman {
		file := dockerconfig.File{Path: path}
		helpers, err := file.Helpers()
		if err != nil {
			return warning("mend or remove it", "podman's file cannot be read: %v", err)
		}
		keys, err := t.secretsIn(file)
		if err != nil {
			return warning("mend or remove it", "podman's file cannot be read: %v", err)
		}
		helper, named := helpers[string(t.address)]
		switch {
		case named && dockerconfig.IsOurs(helper) && alone && !t.dockerAsks():
			return warning(session.Run(program+" configure --registry "+string(t.address))+", or unset DOCKER_CONFIG",
				"podman 4.4, buildah 1.29 and newer look into DOCKER_CONFIG only, and not into %s, which names this program", path)
		case named && dockerconfig.IsOurs(helper):
			return ok("podman asks this program, by %s", path)
		case named:
			return warning(session.Run(configure+" --yes"), "%s the credential helper %q, which %s names", uses(who, alone), helper, path)
		case len(keys) > 0:
			remedy := fmt.Sprintf("take the entry %q out of auths in %s", keys[0], path)
			if command, ok := quoted("podman", "logout", "--authfile", path, keys[0]); ok {
				remedy = session.Run(command)
			}
			return warning(remedy, "%s a secret in %s and not this program", uses(who, alone), path)
		}
	}
	if t.getenv("REGISTRY_AUTH_FILE") != "" && !slices.Contains(t.Podman, t.Docker.Path) {
		return warning(session.Run(configure)+", or unset REGISTRY_AUTH_FILE",
			"podman 4.4, skopeo 1.11 and newer look into REGISTRY_AUTH_FILE only, %s, which does not name this program", t.Podman[0])
	}
	return ok("nothing of podman's comes before Docker's config.json")
}

func uses(who string, one bool) string {
	if one {
		return who + " uses"
	}
	return who + " use"
}

// helm: Helm looks into the file of helm registry login before it looks into
// Docker's, and a token in that ends within a day.
func (t *target) helm(context.Context) Finding {
	file := dockerconfig.File{Path: t.helmFile()}
	if file.Path == "" {
		return ok("nothing of Helm's comes before Docker's config.json")
	}
	switch keys, err := t.secretsIn(file); {
	case err != nil:
		return warning("mend or remove it", "Helm's file cannot be read: %v", err)
	case len(keys) > 0:
		remedy := session.Run("helm registry logout " + string(t.address))
		if keys[0] != string(t.address) {
			remedy = fmt.Sprintf("take the entry %q out of auths in %s", keys[0], file.Path)
		}
		return warning(remedy, "Helm uses a secret in %s, which nobody renews, and does not ask this program", file.Path)
	}
	return ok("nothing of Helm's comes before Docker's config.json")
}

// helmFile is where Helm keeps the credentials of registries (helm.sh/helm/v3,
// pkg/cli and pkg/helmpath), "" if that cannot be told.
func (m *machine) helmFile() string {
	if path := m.getenv("HELM_REGISTRY_CONFIG"); path != "" {
		return path
	}
	dir := m.getenv("HELM_CONFIG_HOME")
	if dir == "" {
		base := m.getenv("XDG_CONFIG_HOME")
		home := m.getenv("HOME")
		switch {
		case base != "":
		case m.GOOS == "windows":
			base = m.getenv("APPDATA")
		case m.GOOS == "darwin" && home != "":
			base = filepath.Join(home, "Library", "Preferences")
		case home != "":
			base = filepath.Join(home, ".config")
		}
		if base == "" {
			return ""
		}
		dir = filepath.Join(base, "helm")
	}
	return filepath.Join(dir, "registry", "config.json")
}

// secretsIn are the keys of a file's secrets for the registry.
func (t *target) secretsIn(file dockerconfig.File) ([]string, error) {
	keys, err := file.Secrets()
	return slices.DeleteFunc(keys, func(key string) bool { return !dockerconfig.IsFor(key, string(t.address)) }), err
}

// dockerAsks reports whether Docker's config.json names this program for the
// registry.
func (t *target) dockerAsks() bool {
	helpers, err := t.Docker.Helpers()
	return err == nil && dockerconfig.IsOurs(helpers[string(t.address)])
}

// podmanOnly is the file by which podman asks this program for the registry,
// where there is no Docker that could; else it is empty.
func (t *target) podmanOnly() string { return PodmanOnly(t.Docker, t.Podman)[string(t.address)] }

// PodmanOnly are, by address, the files by which podman asks this program, where
// Docker has no configuration at all.
func PodmanOnly(docker dockerconfig.File, podman []string) map[string]string {
	if _, err := os.Stat(docker.Path); docker.Path != "" && err == nil {
		return nil
	}
	files := map[string]string{}
	for _, path := range podman {
		helpers, _ := dockerconfig.File{Path: path}.Helpers() // unreadable: the check podman says so
		for address, helper := range helpers {
			if dockerconfig.IsOurs(helper) && files[address] == "" {
				files[address] = path
			}
		}
	}
	return files
}
