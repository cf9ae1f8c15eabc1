package testenv

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestObjectStoreIsEmptyClosedAndGoesAwayWhole(t *testing.T) {
	Need(t, "s3")
	store, stop, err := StartS3()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if entries, err := os.ReadDir(store.Folder); err != nil || len(entries) > 0 {
		t.Errorf("a new bucket holds %v, %v", entries, err)
	}
	resp, err := http.Get(store.URL + "/" + store.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature the bucket is answered with %d, want 403", resp.StatusCode)
	}

	stop()
	if _, err := os.Stat(filepath.Dir(filepath.Dir(store.Folder))); !os.IsNotExist(err) {
		t.Errorf("after stop, the store's folder is still there (%v)", err)
	}
	if resp, err := http.Get(store.URL); err == nil {
		resp.Body.Close()
		t.Error("after stop, the store still answers")
	}
}
