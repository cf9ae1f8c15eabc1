package atomicfile

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// Whoever writes and whoever reads do not notice each other.
func TestWriteWhileOthersRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	if err := Write(path, []byte("record")); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				got, err := private.Read(path, 100)
				if err != nil || string(got) != "record" {
					t.Errorf("the file holds %q, %v", got, err)
					return
				}
				select {
				case <-written:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	for range 50 {
		if err := Write(path, []byte("record")); err != nil {
			t.Error(err)
		}
	}
	close(written)
	readers.Wait()
}
