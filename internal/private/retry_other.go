//go:build !windows

package private

// Retry runs op. Only Windows has it fail while others use the same file.
func Retry(op func() error) error { return op() }
