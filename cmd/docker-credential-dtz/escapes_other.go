//go:build !windows

package main

import "io"

func understandsEscapes(io.Writer) bool { return true }
