package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
)

// A pipeline with a folder of its own each time does not fill our file.
func TestOriginsDoNotGrowForEver(t *testing.T) {
	dir := t.TempDir()
	stays := filepath.Join(dir, "config.json")
	c := &config.Config{}
	for i := range 3 * maxOrigins {
		path := filepath.Join(dir, fmt.Sprint(i), "config.json")
		if i == 0 {
			path = stays
		}
		file := dockerconfig.File{Path: path}
		plan, err := file.Preview(dockerconfig.Add([]string{"cr.dtz.rocks"}, dockerconfig.Helper, nil))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := file.Apply(dockerconfig.Add([]string{"cr.dtz.rocks"}, dockerconfig.Helper, nil)); err != nil {
				t.Fatal(err)
			}
		}
		noteOrigin(c, path, plan)
		if _, known := originOf(c, path); !known {
			t.Fatalf("%s is forgotten at once", path)
		}
	}
	if len(c.Origins) > maxOrigins {
		t.Errorf("%d files are remembered, want no more than %d", len(c.Origins), maxOrigins)
	}
	if _, known := originOf(c, stays); !known {
		t.Error("a file that is there is forgotten")
	}
}
