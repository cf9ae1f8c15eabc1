package store

import "io/fs"

// ownedPrivately has nothing to check: folders below a user's profile are
// protected by their inherited access-control lists.
func ownedPrivately(string, fs.FileInfo) error { return nil }
