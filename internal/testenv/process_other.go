//go:build !linux

package testenv

import (
	"os"
	"os/exec"
)

func dieWithParent(*exec.Cmd) {}

func terminate(p *os.Process) error { return p.Kill() }

func removeMounted(dir string) error { return os.RemoveAll(dir) }
