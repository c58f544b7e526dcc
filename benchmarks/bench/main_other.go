//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: network namespaces are needed: run it on Linux, as root")
	os.Exit(1)
}
