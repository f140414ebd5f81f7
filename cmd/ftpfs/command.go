package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set at build time (-ldflags "-X main.version=...").
var version = ""

// newRootCommand builds the command line. arg0 is the name it was called by: as mount.ftpfs (or
// mount.fuse.ftpfs) it follows the conventions of mount(8)'s helpers.
func newRootCommand(arg0 string) *cobra.Command {
	helper := strings.HasPrefix(filepath.Base(arg0), "mount.")
	var given givenOptions
	var foreground, sloppy bool
	root := &cobra.Command{
		Use:           "ftpfs [options] URL MOUNTPOINT",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionText(),
		Args: func(_ *cobra.Command, args []string) error {
			return checkArgs(args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			m := mountRequest{url: args[0], mountpoint: args[1], given: given, foreground: foreground, sloppy: sloppy}
			if helper {
				m.fake, m.foreground = foreground, false // mount -f
			}
			return m.run()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f := root.Flags()
	f.SortFlags = false
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(canonical(name))
	})
	f.BoolVarP(&foreground, "foreground", "f", false, "")
	f.VarP(&givenFlag{into: &given, list: true}, "options", "o", "")
	f.BoolVarP(&sloppy, "sloppy", "s", false, "")
	// What else mount(8) hands to its helpers.
	var none bool
	f.BoolVarP(&none, "no_mtab", "n", false, "")
	f.BoolVarP(&none, "verbose", "v", false, "")
	var fstype string
	f.StringVarP(&fstype, "type", "t", "", "")
	for _, o := range optionTable() {
		flag := f.VarPF(&givenFlag{into: &given, name: o.name}, o.name, "", o.help)
		if o.value == "" {
			flag.NoOptDefVal = "on"
		}
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpFunc(func(c *cobra.Command, _ []string) {
		if c == root {
			fmt.Fprint(c.OutOrStdout(), helpText())
			return
		}
		fmt.Fprintf(c.OutOrStdout(), "%s\n\nUsage: %s\n%s", strings.TrimSpace(c.Long), c.UseLine(), c.LocalFlags().FlagUsages())
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newUmountCommand(), newDemoCommand(), newVersionCommand())
	root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true, Run: func(c *cobra.Command, _ []string) { _ = root.Help() }})
	return root
}

// checkArgs wants a URL and a mountpoint, and doesn't quote the URL.
func checkArgs(args []string) error {
	switch {
	case len(args) == 2 && strings.Contains(args[1], "://") && !strings.Contains(args[0], ":"):
		return usageError{errors.New("the URL comes first: ftpfs URL MOUNTPOINT")}
	case len(args) == 2:
		return nil
	case len(args) == 0:
		return usageError{errors.New("what is to be mounted? Write: ftpfs " + urlForm + " MOUNTPOINT")}
	case len(args) == 1 && strings.Contains(args[0], "://"):
		return usageError{errors.New("the mountpoint is missing: ftpfs URL MOUNTPOINT")}
	case len(args) == 1:
		return usageError{errors.New("one argument, which is neither a command (umount, demo, version) nor a URL with a mountpoint behind it")}
	}
	return usageError{fmt.Errorf("%d arguments where two are expected: ftpfs [options] URL MOUNTPOINT (quote names with spaces)", len(args))}
}

// givenOption is an option as it stood on the command line; list marks a whole -o list.
type givenOption struct {
	name, value string
	list        bool
}

// givenOptions keeps the order, in which the last one wins.
type givenOptions []givenOption

// givenFlag is a pflag.Value that only takes notes: pflag would quote values in its errors.
type givenFlag struct {
	into *givenOptions
	name string
	list bool
}

func (g *givenFlag) Set(v string) error {
	*g.into = append(*g.into, givenOption{g.name, v, g.list})
	return nil
}
func (g *givenFlag) String() string { return "" }
func (g *givenFlag) Type() string   { return "value" }

func (given givenOptions) apply(p *optionParser) error {
	for _, g := range given {
		var err error
		if g.list {
			err = p.list(g.value)
		} else {
			err = p.one(g.name, g.value, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mountRequest is the command line of a mount.
type mountRequest struct {
	url, mountpoint          string
	given                    givenOptions
	foreground, sloppy, fake bool
}

func (m mountRequest) run() error {
	s := defaults()
	p := newOptionParser(&s)
	p.sloppy, p.warn = m.sloppy, warn
	if err := m.given.apply(p); err != nil {
		return usageError{err}
	}
	if err := s.complete(m.url); err != nil {
		return usageError{err}
	}
	s.Foreground = m.foreground
	if m.fake {
		return nil
	}
	if err := checkFUSE(); err != nil {
		return err
	}
	var err error
	if s.Mountpoint, err = prepareMountpoint(m.mountpoint); err != nil {
		return err
	}
	if err := credentials(&s, warn, promptPassword); err != nil {
		return err
	}
	s.Source = s.URL.String() // netrc may have named the user
	return launch(s)
}

func warn(text string) { fmt.Fprintln(os.Stderr, "ftpfs: warning:", text) }

func newUmountCommand() *cobra.Command {
	var lazy bool
	wait := waitFlag(-1)
	c := &cobra.Command{
		Use:   "umount [--lazy] [--wait=TIME] MOUNTPOINT",
		Short: "unmount, and wait until everything written is on the server",
		Long: `Unmounts and returns when the process that served the mount has ended: everything that was
written is then on the server, or the exit code is 1 and the message says what isn't. At a terminal
a bar shows how far what writeback has put off is; --wait bounds the waiting, and not the work.
fusermount3 -u and umount do as well, but don't wait.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("umount wants one mountpoint: ftpfs umount MOUNTPOINT")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			bar := newProgressBar(os.Stderr)
			defer bar.end()
			return umountCommand(ctx, args[0], lazy, time.Duration(wait), waiter{
				say: func(text string) { bar.print("ftpfs: " + text) }, show: bar.show,
			})
		},
	}
	c.Flags().BoolVarP(&lazy, "lazy", "z", false, "detach now, even if in use; those who use it may finish")
	c.Flags().Var(&wait, "wait", "wait so long at most, for example 30s or 5m; 0 doesn't wait; without it, until the end")
	return c
}

// waitFlag is a time to wait; negative: without a limit.
type waitFlag time.Duration

func (w *waitFlag) Set(v string) error {
	d, err := parseTime(v)
	if err != nil || d < 0 {
		return errors.New("write a time like 30s or 5m, or 0")
	}
	*w = waitFlag(d)
	return nil
}

func (w *waitFlag) String() string {
	if *w < 0 {
		return ""
	}
	return time.Duration(*w).String()
}
func (w *waitFlag) Type() string { return "TIME" }

func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [MOUNTPOINT]",
		Short: "mount a sample site from an FTP server inside this program",
		Long: `Starts an FTP server on loopback with a small sample site, mounts it (on MOUNTPOINT, or a directory
made for it), and shows ls, grep and cp on it. At a terminal it stays mounted until Ctrl-C;
otherwise it cleans up and ends with 0 if every step worked.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("demo wants one mountpoint at most: ftpfs demo [MOUNTPOINT]")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return demoCommand(ctx, strings.Join(args, ""), os.Stdout)
		},
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{errors.New("version wants no arguments")}
			}
			return nil
		},
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), versionText()) },
	}
}

func versionText() string {
	v, goVersion := version, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = " (" + info.GoVersion + ")"
		if v == "" {
			v = info.Main.Version
		}
	}
	if v == "" {
		v = "unknown"
	}
	return "ftpfs " + v + goVersion
}
