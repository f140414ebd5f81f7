package ftptest

import (
	"context"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Script is a server that answers as told, right or wrong, and like an ordinary server where it was told
// nothing: a login with any password, a tree of files in memory, LIST, NLST, RETR, STOR, APPE, REST, SIZE,
// and data connections by EPSV, PASV, EPRT and PORT.
//
// Replies are given as texts of one or more lines without line ends. All methods may be called
// concurrently; what they set holds for commands that come later.
type Script struct {
	t        testing.TB
	listener net.Listener
	tasks    sync.WaitGroup
	conns    connSet
	ctx      context.Context // ends with the test

	mu sync.Mutex // guards following fields
	scriptState
}

type scriptState struct {
	closed    bool
	greeting  []string
	handlers  map[string]func(arg string) []string
	transfers map[string]Transfer
	features  []string
	pasv      string
	epsv      string
	dataHost  string // "": where the control connection is
	pret      bool
	listing   *string
	files     map[string][]byte
	commands  []string
	sessions  int
}

// Hangup, as a reply, closes the control connection.
const Hangup = "\x00hangup"

// Transfer is how a transfer command is answered.
type Transfer struct {
	Before []string // sent before the data; nil: no 1yz at all
	After  []string // sent behind the data
	// FinalFirst sends After before the data, which is no fault of RFC 959: the two connections have no
	// order between them.
	FinalFirst bool
	Hold       <-chan struct{} // unless nil: what ends an upload is sent when it is closed
}

// OrdinaryTransfer is what [Script.Transfer] replaces.
func OrdinaryTransfer() Transfer {
	return Transfer{Before: []string{"150 Here it comes."}, After: []string{"226 Transfer complete."}}
}

// NewScript starts a server on 127.0.0.1 until the test ends.
func NewScript(t testing.TB) *Script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Script{t: t, listener: l, ctx: ctx}
	s.scriptState = scriptState{
		greeting:  []string{"220 ready"},
		handlers:  map[string]func(string) []string{},
		transfers: map[string]Transfer{},
		features:  []string{"EPSV", "EPRT", "SIZE", "REST STREAM"},
		pasv:      "227 Entering Passive Mode (%s).",
		epsv:      "229 Entering Extended Passive Mode (|||%s|).",
		files:     map[string][]byte{},
	}
	s.tasks.Go(s.accept)
	t.Cleanup(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		cancel()
		l.Close()
		s.conns.closeAll()
		s.tasks.Wait()
	})
	return s
}

// Addr is host:port for clients.
func (s *Script) Addr() string { return s.listener.Addr().String() }

func (s *Script) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.sessions++
		closed := s.closed || !s.conns.add(conn, 0)
		s.mu.Unlock()
		if closed {
			conn.Close()
			continue
		}
		s.tasks.Go(func() { newScriptSession(s, conn).run() })
	}
}

func (s *Script) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Greeting replaces "220 ready".
func (s *Script) Greeting(replies ...string) { s.set(func() { s.greeting = replies }) }

// Reply answers a verb with replies, and does nothing else. No replies: silence.
func (s *Script) Reply(verb string, replies ...string) {
	replies = append([]string{}, replies...) // not nil, even if there are none
	s.On(verb, func(string) []string { return replies })
}

// On answers a verb with what f returns for its argument; nil: as if nothing was said of the verb.
// f is called by the sessions' goroutines.
func (s *Script) On(verb string, f func(arg string) []string) {
	s.set(func() { s.handlers[strings.ToUpper(verb)] = f })
}

// Transfer changes the replies around a data transfer.
func (s *Script) Transfer(verb string, tr Transfer) {
	s.set(func() { s.transfers[strings.ToUpper(verb)] = tr })
}

// Features replaces the lines of FEAT.
func (s *Script) Features(lines ...string) { s.set(func() { s.features = lines }) }

// PASV sets the reply to PASV; "%s" in it becomes the six numbers. Without it, the reply names no port.
func (s *Script) PASV(reply string) { s.set(func() { s.pasv = reply }) }

// EPSV sets the reply to EPSV; "%s" in it becomes the port. Without it, the reply names no port.
func (s *Script) EPSV(reply string) { s.set(func() { s.epsv = reply }) }

// DataHost is the address of this machine where data connections are accepted, and which the reply to PASV names, instead of that of the
// control connection.
func (s *Script) DataHost(ip string) { s.set(func() { s.dataHost = ip }) }

// PRET makes the server insist on a PRET before EPSV and PASV, like DrFTPD, and on the command that it named behind them.
func (s *Script) PRET() {
	s.set(func() { s.pret, s.features = true, append(slices.Clone(s.features), "PRET") })
}

// Listing is what LIST and MLSD of every directory send, as it stands, instead of the tree.
func (s *Script) Listing(raw string) { s.set(func() { s.listing = &raw }) }

// WriteFile puts a file into the tree, whose directories are those that have files.
func (s *Script) WriteFile(name string, data []byte) {
	s.set(func() { s.files[path.Join("/", name)] = data })
}

// File is a file of the tree, and whether it exists.
func (s *Script) File(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[path.Join("/", name)]
	return data, ok
}

// Files is a copy of the tree: paths to contents.
func (s *Script) Files() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.files)
}

// Commands are the command lines of all sessions, the arguments of PASS and ACCT replaced by "***".
func (s *Script) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// Sessions is how many control connections were made.
func (s *Script) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}
