package faults

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

var (
	soak = flag.Bool("soak", false, "run the long form of the tests")
	runs = flag.Int("runs", 2000, "of each kind that is killed, in the long form")
	seed = flag.Uint64("seed", 0, "of random tests; 0 draws one")
)

// scheduling is what is allowed on top of a limit: for a process to start, to be
// given a processor and to end, while everything else here runs as well.
const scheduling = 5 * time.Second

func TestMain(m *testing.M) {
	// Most of these tests wait for something that does not come, and need no
	// processor for that. The command line may say otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(Main(m))
}

// newRand is where a random test takes its numbers from. The seed that has it
// happen again is logged.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// Whatever the identity service does, get answers or fails within DTZ_TIMEOUT,
// and says in one line why.
func TestGetEndsWhateverTheIdentityServiceDoes(t *testing.T) {
	testenv.Need(t, "keychain")
	const limit = 2 * time.Second
	for _, f := range All() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			m := NewMachine(t, s)
			m.Setenv("DTZ_TIMEOUT", limit.String())
			m.Login("--keep")
			m.Age(30 * time.Hour) // nothing is left to fall back to but the key
			s.Break(f)
			secret, o := m.Get()
			if o.Took > limit+scheduling {
				t.Errorf("get took %v, DTZ_TIMEOUT is %v", o.Took, limit)
			}
			answered := secret != "" && o.Code == 0
			failed := secret == "" && o.Code == 1 && strings.Count(o.Stderr, "\n") == 1
			if !answered && !failed {
				t.Errorf("get: exit code %d, answer %t, and it says %q", o.Code, secret != "", o.Stderr)
			}
			s.Break(Works)
			time.Sleep(1100 * time.Millisecond) // within a second of a failure it is shared
			if secret, o := m.Get(); secret == "" {
				t.Errorf("with the service mended, get says %q", o.Stderr)
			}
			if left := m.Leftovers(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if testing.Verbose() {
				t.Logf("%v, exit code %d: %s", o.Took, o.Code, o.Stderr)
			}
		})
	}
}
