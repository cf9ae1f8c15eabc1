package dockerconfig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChangedByAnother(t *testing.T) {
	const theirs = `{"auths":{"ghcr.io":{}}}`
	tests := []struct {
		name   string
		exists bool
		// other is what another program does to path between the n-th time that
		// we read it and our renaming.
		other     func(t *testing.T, path string, n int)
		wantEdits int
		wantErr   string
		want      string // the content; empty: what other left
	}{
		{
			name:   "once",
			exists: true,
			other: func(t *testing.T, path string, n int) {
				if n == 1 {
					write(t, path, theirs, 0o600)
				}
			},
			wantEdits: 2,
			want:      `{"auths":{"ghcr.io":{}},"credHelpers":{"cr.dtz.rocks":"dtz"}}`,
		},
		{
			name: "who makes the file",
			other: func(t *testing.T, path string, n int) {
				if n == 1 {
					write(t, path, before, 0o600)
				}
			},
			wantEdits: 2,
			want:      after,
		},
		{
			name:   "who removes the file",
			exists: true,
			other: func(t *testing.T, path string, n int) {
				if n == 1 {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
			},
			wantEdits: 2,
			want:      "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}\n",
		},
		{
			name:   "each time",
			exists: true,
			other: func(t *testing.T, path string, n int) {
				write(t, path, fmt.Sprintf(`{"n":%d}`, n), 0o600)
			},
			wantEdits: maxTries,
			wantErr:   ErrChanged.Error(),
			want:      fmt.Sprintf(`{"n":%d}`, maxTries),
		},
		{
			name:   "who makes it a folder",
			exists: true,
			other: func(t *testing.T, path string, n int) {
				if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
					t.Fatal(err)
				}
			},
			wantEdits: 1,
			wantErr:   "not a regular file",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if tt.exists {
				write(t, path, before, 0o600)
			}
			edits := 0
			c, err := File{path}.Apply(func(data []byte) (Change, error) {
				edits++
				tt.other(t, path, edits)
				return Add([]string{ours}, "dtz", nil)(data)
			})
			changed := addresses(c)
			if tt.wantErr == "" && (err != nil || !slices.Equal(changed, []string{ours})) {
				t.Errorf("Apply = %v, %v, want %s", changed, err, ours)
			}
			if tt.wantErr != "" && (err == nil || changed != nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("Apply = %v, %v, want an error that names the file and says %q", changed, err, tt.wantErr)
			}
			if edits != tt.wantEdits {
				t.Errorf("%d edits, want %d", edits, tt.wantEdits)
			}
			if tt.want != "" {
				wantContent(t, path, tt.want)
			}
			wantFiles(t, filepath.Dir(path), "config.json")
		})
	}
}

// A file that is to go may have got something that has to stay.
func TestChangedByAnotherBeforeItGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`, 0o600)
	edits := 0
	c, err := File{path}.Apply(func(data []byte) (Change, error) {
		if edits++; edits == 1 {
			write(t, path, `{"auths":{"ghcr.io":{}},"credHelpers":{"cr.dtz.rocks":"dtz"}}`, 0o600)
		}
		return Remove(nil, Origin{Missing: MissingFile}, "dtz")(data)
	})
	if err != nil || edits != 2 || !slices.Equal(addresses(c), []string{ours}) {
		t.Errorf("Apply = %v, %v after %d edits, want %s after 2", addresses(c), err, edits, ours)
	}
	wantContent(t, path, `{"auths":{"ghcr.io":{}}}`)
}

func TestManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, before, 0o600)
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, err := File{path}.Apply(Add([]string{fmt.Sprintf("r%d.example", i)}, "dtz", nil))
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil && !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, []byte(`{"auths":{},"credHelpers":{"r`)) {
		t.Errorf("the file holds %s, %v", data, err)
	}
	if _, err := (File{path}).Helpers(); err != nil {
		t.Error(err)
	}
	wantFiles(t, filepath.Dir(path), "config.json")
}
