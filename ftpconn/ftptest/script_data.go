package ftptest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scriptDataTimeout is how long a Script waits for a data connection before it says 425.
const scriptDataTimeout = 10 * time.Second

func (c *scriptSession) forgetData() {
	if c.listener != nil {
		c.listener.Close()
	}
	c.listener, c.active = nil, ""
}

// port prepares a data connection.
func (c *scriptSession) port(verb, arg string) string {
	c.forgetData()
	switch verb {
	case "PORT":
		m := sixNumbers.FindStringSubmatch(arg)
		if m == nil {
			return "501 What port?"
		}
		hi, _ := strconv.Atoi(m[2])
		lo, _ := strconv.Atoi(m[3])
		c.active = fmt.Sprintf("%s:%d", strings.ReplaceAll(m[1], ",", "."), hi<<8|lo)
		return "200 PORT command successful."
	case "EPRT":
		fields := strings.Split(arg, "|")
		if len(fields) != 5 {
			return "501 What port?"
		}
		c.active = net.JoinHostPort(fields[2], fields[3])
		return "200 EPRT command successful."
	}
	host, _, _ := net.SplitHostPort(c.conn.LocalAddr().String())
	c.s.mu.Lock()
	host = cmp.Or(c.s.dataHost, host)
	c.s.mu.Unlock()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "425 " + err.Error()
	}
	c.listener = l.(*net.TCPListener)
	port := l.Addr().(*net.TCPAddr).Port
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if verb == "EPSV" {
		return strings.Replace(c.s.epsv, "%s", strconv.Itoa(port), 1)
	}
	return strings.Replace(c.s.pasv, "%s", fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(host, ".", ","), port>>8, port&255), 1)
}

// open makes the data connection.
func (c *scriptSession) open() (net.Conn, error) {
	defer c.forgetData()
	var conn net.Conn
	var err error
	switch {
	case c.listener != nil:
		l := c.listener
		l.SetDeadline(time.Now().Add(scriptDataTimeout))
		stop := context.AfterFunc(c.s.ctx, func() { l.Close() })
		conn, err = l.Accept()
		stop()
	case c.active != "":
		conn, err = (&net.Dialer{Timeout: scriptDataTimeout}).DialContext(c.s.ctx, "tcp", c.active)
	default:
		err = errors.New("use PORT or PASV first")
	}
	if err == nil && !c.track(conn) {
		conn.Close()
		err = net.ErrClosed
	}
	return conn, err
}

func (c *scriptSession) track(conn net.Conn) bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return !c.s.closed && c.s.conns.add(conn, 0)
}

// transfer moves data. The 1yz comes before the data connection is waited for, as with most servers.
func (c *scriptSession) transfer(verb, arg string, tr Transfer) bool {
	offset := c.offset
	c.offset = 0
	data, upload, refusal := c.content(verb, arg)
	if refusal != "" {
		c.forgetData()
		return c.send(refusal)
	}
	if !c.send(tr.Before...) || tr.FinalFirst && !c.send(tr.After...) {
		return false
	}
	conn, err := c.open()
	if err != nil {
		return c.send("425 " + err.Error())
	}
	if upload {
		received, err := io.ReadAll(conn)
		if tr.Hold != nil {
			select {
			case <-tr.Hold:
			case <-c.s.ctx.Done():
			}
		}
		if err != nil {
			conn.Close()
			c.s.conns.remove(conn)
			return c.send("426 " + err.Error())
		}
		if verb == "APPE" {
			offset = len(data)
		}
		// What stands behind the bytes stays, if there was a REST.
		whole := append(slices.Clone(data[:min(offset, len(data))]), received...)
		if verb == "STOR" && offset > 0 && len(whole) < len(data) {
			whole = append(whole, data[len(whole):]...)
		}
		c.s.WriteFile(c.abs(arg), whole)
	} else {
		conn.Write(data[min(offset, len(data)):])
	}
	conn.Close()
	c.s.conns.remove(conn)
	return tr.FinalFirst || c.send(tr.After...)
}

// content is what a command sends, or has before it stores.
func (c *scriptSession) content(verb, arg string) (data []byte, upload bool, refusal string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch verb {
	case "RETR":
		data, ok := c.s.files[c.abs(arg)]
		if !ok {
			return nil, false, "550 No such file or directory"
		}
		return data, false, ""
	case "STOR", "APPE":
		return c.s.files[c.abs(arg)], true, ""
	}
	if c.s.listing != nil && verb != "NLST" {
		return []byte(*c.s.listing), false, ""
	}
	if strings.HasPrefix(arg, "-") {
		_, arg, _ = strings.Cut(arg, " ")
	}
	return []byte(c.list(verb, c.abs(arg))), false, ""
}

// list prints a directory. Called with s.mu held.
func (c *scriptSession) list(verb, dir string) string {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	sizes := map[string]int{} // -1: directory
	for f, data := range c.s.files {
		rest, ok := strings.CutPrefix(f, prefix)
		if !ok {
			continue
		}
		if name, _, below := strings.Cut(rest, "/"); below {
			sizes[name] = -1
		} else {
			sizes[name] = len(data)
		}
	}
	var out []string
	for name, size := range sizes {
		switch {
		case verb == "NLST":
			out = append(out, name)
		case verb == "MLSD" && size < 0:
			out = append(out, "type=dir;modify=20240102030405; "+name)
		case verb == "MLSD":
			out = append(out, fmt.Sprintf("type=file;size=%d;modify=20240102030405; %s", size, name))
		case size < 0:
			out = append(out, "drwxr-xr-x    2 1000     1000         4096 Jan 02  2024 "+name)
		default:
			out = append(out, fmt.Sprintf("-rw-r--r--    1 1000     1000     %8d Jan 02  2024 %s", size, name))
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Compare(a[strings.LastIndexByte(a, ' ')+1:], b[strings.LastIndexByte(b, ' ')+1:])
	})
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\r\n") + "\r\n"
}
