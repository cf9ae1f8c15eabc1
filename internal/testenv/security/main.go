// Security stands in for /usr/bin/security of macOS, as far as go-keyring uses
// it: it reads lines and splits them as that does (SecurityTool, readline.c and
// security.c), and fails with its exit codes. Its keychain is items.json beside
// the program; the length of each line goes to lines. A file fails beside it
// holds the exit code that every command ends in, or hang.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	maxLine = 4096 // MAX_LINE_LEN, the NUL at its end included

	exitUsage    = 2
	exitNotFound = 44 // errSecItemNotFound, -25300
	exitExists   = 45 // errSecDuplicateItem, -25299
)

func main() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	k := keychain{filepath.Dir(self)}
	args := os.Args[1:]
	if len(args) != 1 || args[0] != "-i" {
		os.Exit(k.execute(args))
	}
	code := 0
	for in := bufio.NewReader(os.Stdin); ; {
		line, err := k.readLine(in)
		if err != nil {
			os.Exit(code) // the last command's
		}
		code = k.execute(split(line))
	}
}

type keychain struct{ dir string }

// readLine returns a line, or as much of it as there is room for: the rest is
// the next one. What has no line break at its end is lost.
func (k keychain) readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for len(line) < maxLine-1 {
		c, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			break
		}
		line = append(line, c)
	}
	f, err := os.OpenFile(filepath.Join(k.dir, "lines"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(f, len(line)+1)
	return string(line), errors.Join(err, f.Close())
}

// split makes arguments of a line. A quote ends an argument, and a backslash
// counts within quotes too: a shell does neither.
func split(line string) (args []string) {
	arg, quote, inside, escaped := "", rune(0), false, false
	for _, c := range line {
		switch {
		case escaped:
			arg, escaped = arg+string(c), false
		case inside && c == '\\':
			escaped = true
		case !inside && strings.ContainsRune(" \t\r\v\f", c):
		case !inside && (c == '"' || c == '\''):
			inside, quote = true, c
		case !inside && c == '\\':
			inside, escaped = true, true
		case !inside:
			inside, arg = true, string(c)
		case quote != 0 && c == quote, quote == 0 && strings.ContainsRune(" \t\r\v\f", c):
			args, arg, inside, quote = append(args, arg), "", false, 0
		default:
			arg += string(c)
		}
	}
	if inside {
		args = append(args, arg)
	}
	return args
}

func (k keychain) execute(args []string) int {
	if len(args) == 0 {
		return 0
	}
	if text, err := os.ReadFile(filepath.Join(k.dir, "fails")); err == nil {
		if string(text) == "hang" {
			time.Sleep(10 * time.Minute)
		}
		code, err := strconv.Atoi(string(text))
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stderr, "security: it fails")
		return code
	}
	takesValue := map[string]string{"add-generic-password": "asw", "find-generic-password": "as", "delete-generic-password": "as"}
	valued, known := takesValue[args[0]]
	options, rest := getopt(args[1:], valued)
	if !known || len(rest) > 0 {
		fmt.Fprintln(os.Stderr, "usage")
		return exitUsage
	}
	lock := flock.New(filepath.Join(k.dir, "lock"))
	if err := lock.Lock(); err != nil {
		panic(err)
	}
	defer lock.Unlock()
	items := k.items()
	name := options['s'] + "\x00" + options['a']
	secret, found := items[name]
	_, update := options['U']
	switch {
	case args[0] == "add-generic-password" && found && !update:
		fmt.Fprintln(os.Stderr, "security: The specified item already exists in the keychain.")
		return exitExists
	case args[0] == "add-generic-password":
		items[name] = options['w']
		k.write(items)
		return 0
	case !found:
		fmt.Fprintln(os.Stderr, "security: SecKeychainSearchCopyNext: The specified item could not be found in the keychain.")
		return exitNotFound
	case args[0] == "find-generic-password":
		_, _ = io.WriteString(os.Stdout, secret+"\n")
		return 0
	}
	delete(items, name)
	k.write(items)
	fmt.Fprintln(os.Stderr, "password has been deleted.")
	return 0
}

// getopt is getopt(3) for options of which those in valued have a value.
func getopt(args []string, valued string) (options map[byte]string, rest []string) {
	options = map[byte]string{}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		letters := args[0][1:]
		args = args[1:]
		for i := range len(letters) {
			if strings.IndexByte(valued, letters[i]) < 0 {
				options[letters[i]] = ""
				continue
			}
			value := letters[i+1:]
			if value == "" && len(args) > 0 {
				value, args = args[0], args[1:]
			}
			options[letters[i]] = value
			break
		}
	}
	return options, args
}

func (k keychain) items() map[string]string {
	items := map[string]string{}
	data, err := os.ReadFile(filepath.Join(k.dir, "items.json"))
	if err == nil {
		err = json.Unmarshal(data, &items)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return items
}

func (k keychain) write(items map[string]string) {
	data, err := json.Marshal(items)
	if err == nil {
		err = os.WriteFile(filepath.Join(k.dir, "items.json"), data, 0o600)
	}
	if err != nil {
		panic(err)
	}
}
