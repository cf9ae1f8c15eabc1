package store

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// keychainName is what people know it by.
const keychainName = "the macOS keychain"

func maxItem(account string) int { return macOSCap(account) }

// explain says what /usr/bin/security failed with, of which go-keyring keeps the
// exit code: the last eight bits of an OSStatus (SecBase.h).
func explain(err error) (why string, reason Reason) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return "", OtherReason
	}
	switch exit.ExitCode() {
	case 36: // errSecInteractionNotAllowed, -25308
		return "it is locked, and there was no way to ask for its password", Locked
	case 37: // errSecNoDefaultKeychain, -25307
		return "this account has no default keychain", OtherReason
	case 51: // errSecAuthFailed, -25293
		return "it denied access, or its password was wrong", Locked
	case 128: // errSecUserCanceled, -128
		return "its prompt was dismissed", Dropped
	}
	return "security failed: " + err.Error(), OtherReason
}

// abandon ends a security that go-keyring still waits for: answered after all,
// its prompt would write what is out of date by then.
func abandon() {
	for _, pid := range childrenCalled("security") {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Signal(syscall.SIGKILL)
		}
	}
}
