package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func dockerAbsent() error { return rootOnLinux("dockerd", "docker")() }

// Docker starts a Docker engine that ends with t: see [StartDocker]. Without
// one on this machine it does what [Need] does.
func Docker(t testing.TB) (host string) {
	t.Helper()
	Need(t, "docker")
	host, stop, err := StartDocker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return host
}

// StartDocker starts a Docker engine without images, and without networks but
// the machine's own, so that it reaches a registry on loopback. host is what
// DOCKER_HOST takes. stop ends it and removes all that it kept.
func StartDocker() (host string, stop func(), err error) {
	dir, err := shortDir()
	if err != nil {
		return "", nil, err
	}
	host = "unix://" + filepath.Join(dir, "docker.sock")
	stopEngine, err := startEngine(dir, host)
	if err != nil {
		_ = removeMounted(dir)
		return "", nil, fmt.Errorf("starting a Docker engine: %w", err)
	}
	return host, func() {
		stopEngine()
		_ = removeMounted(dir)
	}, nil
}

func startEngine(dir, host string) (stop func(), err error) {
	config := filepath.Join(dir, "daemon.json") // not the machine's own
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	engine := exec.Command("dockerd",
		"--config-file", config,
		"-H", host,
		"--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false")
	engine.Stdout, engine.Stderr = log, log
	stop, err = Start(engine)
	if err != nil {
		return nil, err
	}
	if err := waitForEngine(host); err != nil {
		stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w; dockerd said:\n%s", err, said[max(0, len(said)-4096):])
	}
	return stop, nil
}

// waitForEngine returns when the engine answers.
func waitForEngine(host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, "docker", "-H", host, "version").CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("no answer: " + string(out))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
