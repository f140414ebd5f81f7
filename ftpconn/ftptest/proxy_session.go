package ftptest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// proxySession is one control connection through the proxy. Its commands and its replies are read by a
// goroutine each.
type proxySession struct {
	p        *Proxy
	id       int
	client   net.Conn
	server   net.Conn
	toClient *lane
	toServer *lane

	mu sync.Mutex // guards following fields; held while a reply is queued, so that replies keep their order
	// pending are the commands whose final reply is still to come, the oldest first.
	pending  []*pendingCommand
	answered bool // something was sent to the client since its last command
	data     *dataConn
	allData  []*dataConn
	holes    []*os.File
}

type pendingCommand struct {
	verb string
	fault
	preliminary int // 1yz replies so far
}

func newSession(p *Proxy, client net.Conn) *proxySession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &proxySession{p: p, id: p.sessions, client: client, answered: true}
}

func (s *proxySession) run() {
	start := s.p.match("", true)
	s.p.sleep(start.delay + s.p.latency()*3/2)
	s.toClient = newLane(s.p, s.client)
	defer func() { <-s.toClient.gone }()
	if start.closeBefore || start.reply != "" {
		if start.reply != "" {
			s.relay(lines(start.reply))
		}
		s.toClient.end(closeAll, s.p.latency()/2)
		return
	}
	server, err := net.Dial("tcp", s.p.target)
	if err != nil || !s.p.track(server) {
		s.toClient.end(abort, s.p.latency()/2)
		return
	}
	defer s.p.drop(server)
	s.server = server
	s.toServer = newLane(s.p, server)
	s.pending = []*pendingCommand{{fault: start}}

	var both sync.WaitGroup
	both.Go(func() {
		s.commands()
		s.toServer.end(closeAll, s.p.latency()/2)
		<-s.toServer.gone
	})
	both.Go(func() {
		s.replies()
		s.toClient.end(closeAll, s.p.latency()/2)
		<-s.toClient.gone
	})
	both.Wait()
	for _, d := range s.allData {
		d.close()
	}
	for _, f := range s.holes {
		f.Close()
	}
}

// lines gives a reply the line ends of the wire.
func lines(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\n", "\r\n") + "\r\n"
}

// clientHello is how TLS begins: a record of type handshake. No command and no reply begins so.
const clientHello = 0x16

// raw leads on what can't be read.
func (s *proxySession) raw(r *bufio.Reader, l *lane) {
	for {
		buf := make([]byte, chunkSize)
		n, err := r.Read(buf)
		if n > 0 && !l.send(buf[:n], s.p.latency()/2) || err != nil {
			return
		}
	}
}

func (s *proxySession) commands() {
	r := bufio.NewReader(s.client)
	for {
		begun := r.Buffered() == 0 // else it came together with the command before
		if first, err := r.Peek(1); err != nil {
			return
		} else if first[0] == clientHello {
			s.raw(r, s.toServer)
			return
		}
		line, err := r.ReadString('\n')
		if err != nil || !s.command(line, begun) {
			return
		}
	}
}

// transfers are the commands that use a data connection.
var transfers = map[string]bool{"RETR": true, "STOR": true, "STOU": true, "APPE": true, "LIST": true, "NLST": true, "MLSD": true}

// command leads one command on; false ends the session. begun says that the client has sent it in a
// packet of its own, or first in one.
func (s *proxySession) command(line string, begun bool) bool {
	text := strings.TrimRight(line, "\r\n")
	s.mu.Lock()
	newRound := s.answered && begun
	s.answered = false
	s.mu.Unlock()
	s.p.recordCommand(s.id, text, newRound)
	c := &pendingCommand{fault: s.p.match(text, false)}
	c.verb, _, _ = strings.Cut(strings.ToUpper(text), " ")
	s.p.sleep(c.delay)
	if c.closeBefore {
		s.server.Close()
		return false
	}
	if c.reply == "" && (c.verb == "PORT" || c.verb == "EPRT") {
		line = s.active(c, line)
	}
	s.mu.Lock()
	s.data.setFault(c.fault.data)
	if transfers[c.verb] {
		s.data.want()
	}
	s.pending = append(s.pending, c)
	s.answerLocked()
	s.mu.Unlock()
	return c.reply != "" || s.toServer.send([]byte(line), s.p.latency()/2)
}

// answerLocked sends the replies that need no server and whose turn it is.
func (s *proxySession) answerLocked() {
	for len(s.pending) > 0 && s.pending[0].reply != "" {
		reply := lines(s.pending[0].reply)
		s.pending = s.pending[1:]
		s.p.recordReply(s.id, reply)
		s.answered = true
		s.toClient.send([]byte(reply), s.p.latency())
	}
}

// relay sends a reply to the client. Called with mu held, or before there are two goroutines.
func (s *proxySession) relay(reply string) {
	s.p.recordReply(s.id, reply)
	s.answered = true
	s.toClient.send([]byte(reply), s.p.latency()/2)
}

func (s *proxySession) replies() {
	r := bufio.NewReader(s.server)
	for {
		if first, err := r.Peek(1); err != nil {
			return
		} else if first[0] == clientHello {
			s.raw(r, s.toClient)
			return
		}
		reply, err := readReply(r)
		if err != nil {
			return
		}
		if !s.reply(reply) {
			s.server.Close()
			return
		}
	}
}

// readReply reads a whole reply, as it stands (RFC 959 section 4.2).
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	reply := line
	if err == nil && len(line) > 3 && line[3] == '-' {
		for end := line[:3] + " "; err == nil && !strings.HasPrefix(line, end); {
			line, err = r.ReadString('\n')
			reply += line
		}
	}
	return reply, err
}

// reply leads one reply on; false ends the session.
func (s *proxySession) reply(reply string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.answerLocked()
	if len(s.pending) == 0 { // 421 unasked, or a second 226
		s.relay(reply)
		return true
	}
	c := s.pending[0]
	// A second 1yz is final: Pure-FTPd ends an aborted RETR with 150. Only 110 comes in between.
	if reply[0] == '1' && (c.preliminary == 0 || strings.HasPrefix(reply, "110")) {
		c.preliminary++
		if !c.dropReply {
			s.relay(reply)
		}
		return true
	}
	s.pending = s.pending[1:]
	switch {
	case c.closeAfter:
		return false
	case c.dropReply:
		return true
	case c.finalReply != "":
		reply = lines(c.finalReply)
	case strings.HasPrefix(reply, "227"), strings.HasPrefix(reply, "229"):
		reply = s.passiveLocked(c, reply)
	}
	s.relay(reply)
	return !c.closeReply
}

var (
	sixNumbers = regexp.MustCompile(`(\d+,\d+,\d+,\d+),(\d+),(\d+)`)
	epsvPort   = regexp.MustCompile(`(\([!-~]{3})(\d+)([!-~]\))`)
)

// passiveLocked puts a port of ours into a 227 or 229. The address in a 227 stays, right or wrong.
func (s *proxySession) passiveLocked(c *pendingCommand, reply string) string {
	host, _, _ := net.SplitHostPort(s.server.RemoteAddr().String())
	if strings.HasPrefix(reply, "227") {
		m := sixNumbers.FindStringSubmatch(reply)
		if m == nil {
			return reply
		}
		hi, _ := strconv.Atoi(m[2])
		lo, _ := strconv.Atoi(m[3])
		port := s.dataPortLocked(c, s.client, net.JoinHostPort(host, strconv.Itoa(hi<<8|lo)))
		return strings.Replace(reply, m[0], fmt.Sprintf("%s,%d,%d", m[1], port>>8, port&255), 1)
	}
	m := epsvPort.FindStringSubmatch(reply)
	if m == nil {
		return reply
	}
	port := s.dataPortLocked(c, s.client, net.JoinHostPort(host, m[2]))
	return strings.Replace(reply, m[0], fmt.Sprintf("%s%d%s", m[1], port, m[3]), 1)
}

// active puts an address of ours into a PORT or EPRT; what it can't read stays as it is.
func (s *proxySession) active(c *pendingCommand, line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, _, _ := net.SplitHostPort(s.server.LocalAddr().String())
	if c.verb == "PORT" {
		m := sixNumbers.FindStringSubmatch(line)
		if m == nil {
			return line
		}
		hi, _ := strconv.Atoi(m[2])
		lo, _ := strconv.Atoi(m[3])
		target := fmt.Sprintf("%s:%d", strings.ReplaceAll(m[1], ",", "."), hi<<8|lo)
		port := s.dataPortLocked(c, s.server, target)
		return fmt.Sprintf("PORT %s,%d,%d\r\n", strings.ReplaceAll(host, ".", ","), port>>8, port&255)
	}
	_, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	if arg == "" {
		return line
	}
	fields := strings.Split(arg, arg[:1])
	if len(fields) != 5 {
		return line
	}
	port := s.dataPortLocked(c, s.server, net.JoinHostPort(fields[2], fields[3]))
	return fmt.Sprintf("EPRT |%s|%s|%d|\r\n", fields[1], host, port)
}

// dataPortLocked is a port where the other end of the control connection near can connect to reach target, or can't,
// as the fault says.
func (s *proxySession) dataPortLocked(c *pendingCommand, near net.Conn, target string) int {
	s.data.forget()
	s.data = nil
	host, _, _ := net.SplitHostPort(near.LocalAddr().String())
	var port int
	var err error
	switch {
	case c.refusePort:
		port, err = refusedPort(host)
	case c.blackhole:
		var hold []*os.File
		port, hold, err = blackhole(strings.Contains(host, ":"))
		s.holes = append(s.holes, hold...)
	default:
		var d *dataConn
		if d, err = newDataConn(s.p, host, target); err == nil {
			s.data = d
			s.allData = append(s.allData, d)
			port = d.port()
		}
	}
	if err != nil {
		s.p.t.Errorf("proxy: port for a data connection: %v", err)
	}
	return port
}
