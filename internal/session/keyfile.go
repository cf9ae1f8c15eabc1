package session

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// CheckKeyFile reads the file of an API key that is to be recorded, and returns
// its absolute path, links in it left as they are: what mounts secrets changes
// where they lead. The key is not tried. The warning says who else can get at
// it; "": nobody.
func CheckKeyFile(path string) (abs, warning string, err error) {
	fail := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("%s: %s %s", FromBoundFile, path, why)
	}
	switch info, err := os.Stat(path); {
	case err != nil: // reading it says why, and quotes no key
	case info.IsDir():
		return fail("is a folder")
	case !info.Mode().IsRegular(): // a pipe, as shells make one of <(command)
		return fail("is not a file that can be read each time")
	case info.Mode().Perm()&0o006 != 0 && runtime.GOOS != "windows" && !isSecretMount(path):
		warning = fmt.Sprintf("others on this machine %s %s; chmod o-rw makes it yours", access(info.Mode()), path)
	}
	if _, _, err := readKey(path, FromBoundFile); err != nil {
		return "", "", err
	}
	if abs, err = filepath.Abs(path); err != nil {
		return "", "", fmt.Errorf("%s: %w", FromBoundFile, err)
	}
	return abs, warning, nil
}

func access(mode fs.FileMode) string {
	if mode.Perm()&0o002 != 0 {
		return "can change"
	}
	return "can read"
}

// isSecretMount reports whether the path is where container engines mount
// secrets: readable for all of the container, in which nobody else is.
func isSecretMount(path string) bool {
	for _, dir := range []string{"/run/secrets/", "/var/run/secrets/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}
