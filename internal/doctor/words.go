package doctor

import (
	"path/filepath"
	"strings"
	"unicode"
)

// quoted joins words to a command that can be pasted into a shell. It reports
// false where that takes more thought than should be left to whoever pastes it:
// a path or a file's key may have been written for that.
func quoted(words ...string) (command string, ok bool) {
	list := make([]string, len(words))
	for i, word := range words {
		switch {
		case word != "" && strings.IndexFunc(word, isSpecial) < 0:
			list[i] = word
		case strings.ContainsAny(word, `'"\`) || strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) }):
			return "", false
		default:
			list[i] = "'" + word + "'"
		}
	}
	return strings.Join(list, " "), true
}

// isSpecial reports whether r may mean something to a shell.
func isSpecial(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._/:@%+=,", r):
		return false
	case r == '\\' && filepath.Separator == '\\':
		return false
	}
	return true
}
