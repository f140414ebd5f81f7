package ftptest

import (
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// python is the system's own: it is the one that distributions package modules for.
const python = "/usr/bin/python3"

//go:embed pyftpdlib.py
var pyftpdlibScript []byte

// configurePyftpdlib hands the settings to the script as JSON.
func configurePyftpdlib(s *Server, dir string, p ports) (argv, env []string, err error) {
	o := s.opt
	if o.TLS == Implicit {
		s.unsupported("TLS: Implicit")
	}
	var deny []string
	if o.NoPassive {
		deny = append(deny, "PASV", "EPSV")
	}
	if o.NoActive {
		deny = append(deny, "PORT", "EPRT")
	}
	if o.NoAppend {
		deny = append(deny, "APPE")
	}
	perm := "elradfmwMT"
	if o.ReadOnly {
		perm = "elr"
	}
	settings, err := json.Marshal(map[string]any{
		"host": s.Host, "port": p.control, "passive": []int{p.lo, p.hi}, "masquerade": o.PASVAddress,
		"user": s.User, "password": s.Password, "root": s.Root, "perm": perm, "uid": s.uid,
		"deny": deny, "idle": or(o.IdleTimeout, 600), "gmt": o.LocalTime == "", "max": o.MaxClients,
		"verbose": o.Verbose, "cert": s.CACert, "key": s.keyFile(), "extra": strings.Join(o.Extra, "\n"),
	})
	if err != nil {
		return nil, nil, err
	}
	script := filepath.Join(dir, "server.py")
	if err := os.WriteFile(script, pyftpdlibScript, 0o644); err != nil {
		return nil, nil, err
	}
	// -B: no __pycache__; -u: the log is complete when the server is killed.
	return []string{python, "-B", "-u", "-W", "ignore", script}, []string{"FTPTEST=" + string(settings)}, nil
}
