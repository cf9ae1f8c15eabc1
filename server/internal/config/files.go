package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkFile makes sure that nobody but its owner can change a file that the
// registry believes, and says so when others may read one that is secret.
// Windows has no such modes.
func (r *reader) checkFile(n *yaml.Node, path, file string, isSecret bool) {
	if runtime.GOOS == "windows" {
		return
	}
	info, err := os.Stat(file)
	if err != nil {
		r.problem(n, path, "%v", err)
		return
	}
	mode := info.Mode()
	if mode.Perm()&0o022 != 0 {
		r.problem(n, path, "others may write %s (mode %04o); run: chmod go-w %s", file, mode.Perm(), file)
	}
	dir := filepath.Dir(file)
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		r.problem(n, path, "others may replace %s: they may write its folder (mode %04o)", file, info.Mode().Perm())
	}
	if isSecret && mode.Perm()&0o004 != 0 && !isSecretsFolder(dir) {
		r.warn(n, path, "others may read %s (mode %04o); run: chmod o-r %s", file, mode.Perm(), file)
	}
}

// isSecretsFolder reports whether dir is one where the system puts secrets for
// this process, so that their modes are its business.
func isSecretsFolder(dir string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	folders := []string{"/run/secrets", "/var/run/secrets", os.Getenv("CREDENTIALS_DIRECTORY")} // the last is systemd's
	return slices.ContainsFunc(folders, func(folder string) bool {
		return folder != "" && (abs == folder || strings.HasPrefix(abs, folder+"/"))
	})
}
