package main

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

func TestHintOfADiskThatTakesNoMore(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		away := &store.UnavailableError{Store: store.FileName, Err: &fs.PathError{Op: "write", Path: "login.json", Err: errno}}
		err := fmt.Errorf("saving the login: %w", &session.Error{Outcome: session.StoreAway, Remedy: "run status", Err: away})
		if got := hintOf(err); !strings.Contains(got, "XDG_STATE_HOME") {
			t.Errorf("the hint of %v is %q", errno, got)
		}
	}
}
