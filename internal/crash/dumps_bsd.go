//go:build unix && !linux

package crash

// NoDumps keeps the memory of this process out of core files. From a debugger
// of the same user it is kept by macOS, if the program is signed for the
// hardened runtime.
func NoDumps() { noCore() }
