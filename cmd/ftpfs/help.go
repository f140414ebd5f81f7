package main

import (
	"fmt"
	"strings"
)

const helpHead = `ftpfs mounts an FTP site as a local directory.

Usage:
  ftpfs [options] URL MOUNTPOINT     mount; returns when the mount answers
  ftpfs umount MOUNTPOINT            unmount; returns when all that was written is on the server
  ftpfs demo [MOUNTPOINT]            try it on a sample site, without any server
  ftpfs version

Examples:
  ftpfs ftp://ftp.example.org/pub ~/ftp
  ftpfs -o ro,ttl=5m ftp://me@nas.lan//volume1 /mnt/nas
  ftpfs --password_file=$HOME/.nas ftpes://me@nas.lan/ /mnt/nas
  ftpfs -f --log_level=debug ftp://me@nas.lan/ /mnt/nas     what is being said
  mount -t ftpfs ftp://nas.lan/ /mnt/nas                    with "make install", or in /etc/fstab

URL: ftp://[user[:password]@]host[:port][/path]
  ftp:// in the clear, ftpes:// explicit TLS (AUTH TLS), ftps:// implicit TLS (port 990). The path
  begins in the login directory; with two slashes (ftp://host//path) at the server's root. Special
  characters are written %XX. Without a user: the netrc entry of the host, else anonymous.

Passwords, the first that is there: the URL, password_file, $FTPFS_PASSWORD, ~/.netrc, a prompt. None of
them shows in ps, /proc/mounts or the log.

Options, as --name=value or -o name=value,switch,...:
`

const helpTail = `
  -f, --foreground         stay in the foreground; Ctrl-C unmounts
  -o, --options LIST       options in the form of mount(8); those meant for mount(8) itself, systemd
                           or fstab (rw, noauto, user, _netdev, nofail, x-...) are ignored
  -s, --sloppy             skip unknown -o options instead of refusing them
  -h, --help; --version

Exit codes: 0 done, 1 failed (for umount and -f also: something written did not reach the server),
2 the command line can't be understood.
`

// helpText is the --help of the program. Options come from the table.
func helpText() string {
	var b strings.Builder
	b.WriteString(helpHead)
	group := ""
	for _, o := range optionTable() {
		if o.group != group {
			group = o.group
			fmt.Fprintf(&b, "\n %s\n", group)
		}
		name := o.name
		if o.value != "" {
			name += "=" + o.value
		}
		help := o.help
		if o.def != "" {
			help += " [" + o.def + "]"
		}
		writeColumns(&b, name, help)
	}
	b.WriteString(helpTail)
	return b.String()
}

// writeColumns writes name and text side by side, the text wrapped at 100 columns.
func writeColumns(b *strings.Builder, name, text string) {
	const indent, width = 27, 100 - 27
	line := fmt.Sprintf("  %-*s", indent-2, name)
	if len(name) > indent-4 {
		b.WriteString("  " + name + "\n")
		line = strings.Repeat(" ", indent)
	}
	room := width
	for _, word := range strings.Fields(text) {
		if len(word)+1 > room {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, room = strings.Repeat(" ", indent), width
		}
		line += word + " "
		room -= len(word) + 1
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
