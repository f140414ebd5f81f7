package ftptest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"strings"
)

// scriptSession is one control connection of a Script; one goroutine does all.
type scriptSession struct {
	s    *Script
	conn net.Conn
	r    *bufio.Reader

	dir      string
	offset   int
	from     string           // of RNFR
	pret     string           // the command that PRET named
	listener *net.TCPListener // of EPSV and PASV
	active   string           // host:port of EPRT and PORT
}

func newScriptSession(s *Script, conn net.Conn) *scriptSession {
	return &scriptSession{s: s, conn: conn, r: bufio.NewReader(conn), dir: "/"}
}

func (c *scriptSession) run() {
	defer c.conn.Close()
	defer c.s.conns.remove(c.conn)
	defer c.forgetData()
	c.s.mu.Lock()
	greeting := c.s.greeting
	c.s.mu.Unlock()
	if !c.send(greeting...) {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if !c.command(strings.ToUpper(verb), arg) {
			return
		}
	}
}

// send writes replies; false after a Hangup or on a lost connection.
func (c *scriptSession) send(replies ...string) bool {
	for _, reply := range replies {
		if reply == Hangup {
			return false
		}
		if _, err := io.WriteString(c.conn, lines(reply)); err != nil {
			return false
		}
	}
	return true
}

func (c *scriptSession) command(verb, arg string) bool {
	shown := verb
	if arg != "" {
		shown += " " + arg
	}
	if verb == "PASS" || verb == "ACCT" {
		shown = verb + " ***"
	}
	c.s.mu.Lock()
	c.s.commands = append(c.s.commands, shown)
	handler := c.s.handlers[verb]
	transfer, changed := c.s.transfers[verb]
	c.s.mu.Unlock()
	if handler != nil {
		if replies := handler(arg); replies != nil {
			return c.send(replies...)
		}
	}
	if !changed {
		transfer = OrdinaryTransfer()
	}
	switch verb {
	case "LIST", "NLST", "MLSD", "RETR", "STOR", "APPE":
		if c.insists() && c.active == "" && !strings.HasPrefix(shown+" ", c.pret+" ") {
			return c.send("500 PRET named " + c.pret)
		}
		c.pret = ""
		return c.transfer(verb, arg, transfer)
	case "PRET":
		return c.send(c.announce(arg))
	case "EPSV", "PASV", "EPRT", "PORT":
		if c.insists() && c.pret == "" && strings.HasSuffix(verb, "SV") {
			return c.send("500 You need to use a client supporting PRET (PRE Transfer) to use PASV")
		}
		return c.send(c.port(verb, arg))
	case "QUIT":
		return c.send("221 Goodbye.", Hangup)
	}
	return c.send(c.plain(verb, arg))
}

func (c *scriptSession) insists() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.pret
}

// announce answers PRET like DrFTPD.
func (c *scriptSession) announce(cmd string) string {
	verb, arg, _ := strings.Cut(cmd, " ")
	switch verb {
	case "LIST", "NLST", "MLSD", "STOR":
	case "RETR":
		if _, ok := c.s.File(c.abs(arg)); !ok {
			return "550 Requested action not taken. File unavailable."
		}
	default:
		return "504 Command not implemented for that parameter"
	}
	c.pret = cmd
	return "200 OK, planning for the upcoming transfer"
}

// abs is the path that an argument means.
func (c *scriptSession) abs(arg string) string {
	if strings.HasPrefix(arg, "/") {
		return path.Clean(arg)
	}
	return path.Join(c.dir, arg)
}

// isDir says whether files lie below name. Called with s.mu held.
func (c *scriptSession) isDir(name string) bool {
	for f := range c.s.files {
		if strings.HasPrefix(f, strings.TrimSuffix(name, "/")+"/") {
			return true
		}
	}
	return name == "/"
}

// plain answers commands without data.
func (c *scriptSession) plain(verb, arg string) string {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	name := c.abs(arg)
	data, exists := c.s.files[name]
	const missing = "550 No such file or directory"
	switch verb {
	case "USER":
		return "331 Password?"
	case "PASS":
		return "230 Logged in."
	case "ACCT":
		return "230 Logged in."
	case "SYST":
		return "215 UNIX Type: L8"
	case "FEAT":
		return "211-Features:\n " + strings.Join(c.s.features, "\n ") + "\n211 End"
	case "TYPE", "NOOP", "OPTS", "MODE", "STRU", "PBSZ":
		return "200 OK"
	case "PWD":
		return `257 "` + c.dir + `"`
	case "CWD", "CDUP":
		if verb == "CDUP" {
			name = path.Dir(c.dir)
		}
		if !c.isDir(name) {
			return missing
		}
		c.dir = name
		return "250 OK"
	case "REST":
		offset, err := strconv.Atoi(arg)
		if err != nil || offset < 0 {
			return "501 What offset?"
		}
		c.offset = offset
		return "350 Restarting."
	case "SIZE":
		if !exists {
			return missing
		}
		return fmt.Sprintf("213 %d", len(data))
	case "DELE":
		if !exists {
			return missing
		}
		delete(c.s.files, name)
		return "250 Deleted."
	case "RNFR":
		if !exists {
			return missing
		}
		c.from = name
		return "350 To what?"
	case "RNTO":
		if data, exists = c.s.files[c.from]; !exists {
			return "503 RNFR first"
		}
		delete(c.s.files, c.from)
		c.s.files[name] = data
		return "250 Renamed."
	case "ABOR":
		return "225 Nothing to abort."
	}
	return "502 Not implemented."
}
