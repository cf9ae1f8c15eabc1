package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Calls at the same time share the keychain's time, and those one after another
// use it up.
func TestPatienceIsOfTheClock(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nobody/asks/here")
	synctest.Test(t, func(t *testing.T) {
		k := &Keychain{Patience: 5 * time.Second}
		call := func() error {
			return k.call(t.Context(), func() error { time.Sleep(2 * time.Second); return nil })
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := call(); err != nil {
					t.Errorf("one of eight at the same time: %v", err)
				}
			})
		}
		wg.Wait()
		if err := call(); err != nil {
			t.Errorf("two seconds after two: %v", err)
		}
		time.Sleep(time.Hour)
		began := time.Now()
		if err := call(); !errors.Is(err, errSilent) || time.Since(began) != time.Second {
			t.Errorf("after four seconds: %v, after %v, want silence after the one that was left", err, time.Since(began))
		}
		begun := false
		if err := k.call(context.Background(), func() error { begun = true; return nil }); !errors.Is(err, errSilent) || begun {
			t.Errorf("after all: %v, and begun is %v", err, begun)
		}
		time.Sleep(time.Minute) // the call that was left behind
	})
}

// A call that begins while another is waiting has what is left of the time, and
// not all of it.
func TestPatienceIsOfCallsThatOverlap(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nobody/asks/here")
	synctest.Test(t, func(t *testing.T) {
		k := &Keychain{Patience: 5 * time.Second}
		began := time.Now()
		first := make(chan error, 1)
		go func() {
			first <- k.call(t.Context(), func() error { time.Sleep(2 * time.Second); return nil })
		}()
		time.Sleep(time.Second)
		err := k.call(t.Context(), func() error { time.Sleep(4500 * time.Millisecond); return nil })
		if took := time.Since(began); !errors.Is(err, errSilent) || took != 5*time.Second {
			t.Errorf("a second after the first: %v, %v after that began, want silence after five seconds", err, took)
		}
		if err := <-first; err != nil {
			t.Errorf("the first: %v", err)
		}
		time.Sleep(time.Minute) // the call that was left behind
	})
}
