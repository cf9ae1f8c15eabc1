package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDockerEngineIsEmptyAndGoesAwayWhole(t *testing.T) {
	Need(t, "docker")
	host, stop, err := StartDocker()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	out, err := exec.Command("docker", "-H", host, "images", "--quiet").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("docker images = %q, %v, want none", out, err)
	}

	stop()
	dir := filepath.Dir(strings.TrimPrefix(host, "unix://"))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after stop, the engine's folder is still there (%v)", err)
	}
}
