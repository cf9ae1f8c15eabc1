package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadinessIsCheckedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		var problem error
		h := &health{log: slog.New(slog.DiscardHandler), check: func(context.Context) error {
			checks.Add(1)
			time.Sleep(time.Second)
			return problem
		}}
		ask := func(want error, wantChecks int32) {
			t.Helper()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if err := h.ready(t.Context()); err != want {
						t.Errorf("ready() = %v, want %v", err, want)
					}
				})
			}
			wg.Wait()
			if got := checks.Load(); got != wantChecks {
				t.Errorf("%d checks, want %d", got, wantChecks)
			}
		}
		ask(nil, 1)
		problem = errors.New("gone")
		ask(nil, 1) // still good
		time.Sleep(readyInterval)
		ask(problem, 2)
		h.end()
		ask(errEnding, 2)
	})
}

func TestStorageThatHangsIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int32
		hangs := make(chan struct{})
		var logged bytes.Buffer
		h := &health{log: slog.New(slog.NewTextHandler(&logged, nil)), check: func(context.Context) error {
			checks.Add(1)
			<-hangs
			return nil
		}}
		for range 5 {
			begun := time.Now()
			if err := h.ready(t.Context()); err != errSlow || time.Since(begun) != readyTimeout {
				t.Errorf("ready() = %v after %v, want %v after %v", err, time.Since(begun), errSlow, readyTimeout)
			}
			time.Sleep(readyInterval)
		}
		if got := checks.Load(); got != 1 {
			t.Errorf("%d checks, want one that all wait for", got)
		}
		close(hangs)
		synctest.Wait()
		if err := h.ready(t.Context()); err != nil {
			t.Errorf("ready() = %v once the storage answers, want nil", err)
		}
		if got := logged.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "not ready") || !strings.Contains(got, "ready again") {
			t.Errorf("logged: %s, want a line when it begins and one when it ends", got)
		}
	})
}
