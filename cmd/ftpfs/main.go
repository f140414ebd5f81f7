// Command ftpfs mounts an FTP site as a local directory.
//
// The process that the user starts reads options (options.go), URL (url.go) and credentials (password.go,
// netrc.go), then starts the serving process without any secret in its command line
// (launch.go), which assembles the layers (mount.go), mounts, and lives as long as the mount
// does (serve.go). "ftpfs umount" waits for its end (umount.go, lifeline.go).
package main

import (
	"errors"
	"fmt"
	"os"
)

// Exit codes, as --help documents them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	st, serving, err := inheritedStage()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ftpfs:", err)
		os.Exit(exitFailure)
	}
	if serving {
		os.Exit(serve(st))
	}
	os.Exit(run(os.Args))
}

// run is the process that the user started; it returns the exit code.
func run(args []string) int {
	root := newRootCommand(args[0])
	root.SetArgs(args[1:])
	err := root.Execute()
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "ftpfs: %v\nTry: ftpfs --help\n", err)
		return exitUsage
	}
	fmt.Fprintln(os.Stderr, "ftpfs:", err)
	return exitFailure
}

// usageError is a command line that can't be carried out as written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
