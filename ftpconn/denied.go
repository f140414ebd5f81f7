package ftpconn

import (
	"path"
	"strings"
	"sync"
	"time"
)

// deniedAge is how long a session of a server may go on to take for missing what it did not find: ProFTPD up to 1.3.7 keeps
// what stat(2) said for three whole seconds (FSCachePolicy, switched off by default in 1.3.8), in each session's process.
const deniedAge = 5 * time.Second

// denied is what a server did not find lately, on one session. If another session makes it, this one denies everything
// below it for a while, unless it is asked for it by MLST, which looks again.
type denied struct {
	mu sync.Mutex           // guards following
	at map[string]time.Time // by absolute path
}

// note takes down the final reply to a command.
func (d *denied) note(command string, r reply) {
	verb, p := pathOf(command)
	if p == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case r.class() == 2:
		delete(d.at, p)
	case r.code == 550 && (verb == "MLST" || verb == "CWD"):
		if d.at == nil {
			d.at = make(map[string]time.Time)
		}
		if len(d.at) > 1000 {
			for old, at := range d.at {
				if time.Since(at) > deniedAge {
					delete(d.at, old)
				}
			}
		}
		d.at[p] = time.Now()
	}
}

// again returns the commands that have to go before lines so that what they name is looked for, and not remembered
// as missing.
func (d *denied) again(lines []string) (first []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.at) == 0 {
		return nil
	}
	for _, line := range lines {
		verb, p := pathOf(line)
		if p == "" {
			continue
		}
		if verb != "CWD" { // the others look at what they name themselves, not at what is above
			p = path.Dir(p)
		}
		for ; p != "/" && p != "."; p = path.Dir(p) {
			if at, ok := d.at[p]; ok {
				delete(d.at, p)
				if time.Since(at) < deniedAge {
					first = append([]string{"MLST " + p}, first...)
				}
			}
		}
	}
	return first
}

// pathOf is the verb of a command, and the absolute path that it names, if there is one.
func pathOf(line string) (verb, p string) {
	verb, args, _ := strings.Cut(line, " ")
	if strings.HasPrefix(args, "/") {
		return verb, args
	}
	if i := strings.Index(args, " /"); i >= 0 { // SITE CHMOD, MFMT and the like
		return verb, args[i+1:]
	}
	return verb, ""
}
