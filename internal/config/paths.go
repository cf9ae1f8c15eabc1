package config

import (
	"errors"
	"path/filepath"
	"runtime"
)

// folder is the name of ours in every place that is not ours alone.
const folder = "docker-credential-dtz"

// ErrNoHome is returned where neither a home folder nor the variable that
// replaces it is set.
var ErrNoHome = errors.New("neither HOME nor the XDG folders are set")

// Path is our config.json: in $XDG_CONFIG_HOME (XDG Base Directory
// Specification 0.8), else ~/.config; on macOS in ~/Library/Application
// Support, on Windows in %AppData%.
func Path(getenv func(string) string) (string, error) {
	dir, err := place(runtime.GOOS, getenv, "XDG_CONFIG_HOME", ".config", "AppData")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "config.json"), nil
}

// StateDir is the folder of locks and sealed files: in $XDG_STATE_HOME, else
// ~/.local/state; on macOS in ~/Library/Application Support, on Windows in
// %LocalAppData%.
func StateDir(getenv func(string) string) (string, error) {
	return place(runtime.GOOS, getenv, "XDG_STATE_HOME", filepath.Join(".local", "state"), "LocalAppData")
}

// orElsewhere is the end of a remedy for who cannot change owner or mode of
// [Path], as on a volume whose driver sets them at each mount.
func orElsewhere() string {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return ""
	}
	return ", or let XDG_CONFIG_HOME name another folder"
}

func place(goos string, getenv func(string) string, xdg, belowHome, windows string) (string, error) {
	if goos == "windows" {
		if dir := getenv(windows); filepath.IsAbs(dir) {
			return filepath.Join(dir, folder), nil
		}
		return "", errors.New("%" + windows + "% is not set")
	}
	if goos == "darwin" {
		belowHome = filepath.Join("Library", "Application Support")
	} else if dir := getenv(xdg); filepath.IsAbs(dir) { // a relative path is to be ignored, says the specification
		return filepath.Join(dir, folder), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, belowHome, folder), nil
	}
	return "", ErrNoHome
}
