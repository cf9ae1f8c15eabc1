package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// versitygw is the S3-compatible server. .ci/run takes the version from here.
// It keeps an object in a file, checks signatures, and knows all that
// distribution's driver asks for, such as copying into a part of an upload.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

func s3Absent() error {
	if err := onLinux("versitygw"); err != nil {
		return fmt.Errorf("%w; go install %s", err, versitygw)
	}
	return nil
}

// An ObjectStore is S3-compatible. It holds one bucket.
type ObjectStore struct {
	URL       string // http, on loopback
	Region    string
	AccessKey string
	SecretKey string
	Bucket    string
	Folder    string // the bucket's, with a file for each object
}

// S3 starts an object store that ends with t: see [StartS3]. Without one on
// this machine it does what [Need] does.
func S3(t testing.TB) *ObjectStore {
	t.Helper()
	Need(t, "s3")
	store, stop, err := StartS3()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return store
}

// StartS3 starts an object store with an empty bucket. stop ends it and removes
// all that it kept.
func StartS3() (store *ObjectStore, stop func(), err error) {
	dir, err := os.MkdirTemp("", "dtz-test-")
	if err != nil {
		return nil, nil, err
	}
	store = &ObjectStore{
		Region:    "us-east-1",
		AccessKey: "testenv",
		SecretKey: "of testenv",
		Bucket:    "images",
		Folder:    filepath.Join(dir, "data", "images"),
	}
	stopServer, err := store.start(dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, fmt.Errorf("starting an object store: %w", err)
	}
	return store, func() {
		stopServer()
		_ = os.RemoveAll(dir)
	}, nil
}

func (s *ObjectStore) start(dir string) (stop func(), err error) {
	// Not every file system has the attributes that metadata would be kept in.
	sidecar := filepath.Join(dir, "metadata")
	for _, d := range []string{s.Folder, sidecar} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	addr, err := unusedAddr()
	if err != nil {
		return nil, err
	}
	s.URL = "http://" + addr
	var said bytes.Buffer
	server := exec.Command("versitygw", "--port", addr, "--quiet", "posix", "--sidecar", sidecar, filepath.Dir(s.Folder))
	server.Env = []string{"HOME=" + dir, "ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	server.Stdout, server.Stderr = &said, &said
	stop, err = Start(server)
	if err != nil {
		return nil, err
	}
	if err := waitForHTTP(s.URL); err != nil {
		stop()
		return nil, fmt.Errorf("%w; versitygw said: %s", err, said.Bytes())
	}
	return stop, nil
}

// unusedAddr is host:port on loopback, for a server that cannot say which port
// it has taken.
func unusedAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// waitForHTTP returns when a server answers, whatever it says.
func waitForHTTP(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
