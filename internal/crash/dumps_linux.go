package crash

import "golang.org/x/sys/unix"

// NoDumps keeps the memory of this process out of core files, and from other
// processes of the same user: they can neither trace it nor read its memory or
// its environment in /proc (PR_SET_DUMPABLE in prctl(2); proc(5)). Where the
// kernel, or who confines the process, does not let it, there is no such thing
// and the process goes on without. Programs that this one starts have no core
// files either, but are as readable as ever.
func NoDumps() {
	// Also where core_pattern pipes core files to a program, and RLIMIT_CORE
	// does not count (core(5)).
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	noCore()
}
