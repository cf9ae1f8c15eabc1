package main

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// understandsEscapes switches a console to escape sequences, which those before
// Windows 10 do not know.
func understandsEscapes(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	console := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(console, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
