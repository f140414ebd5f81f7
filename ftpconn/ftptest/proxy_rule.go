package ftptest

import (
	"regexp"
	"time"
)

// Rule is what the proxy does to commands that match. Its methods add to it and return it:
//
//	p.On("EPSV").Reply("502 not here")
//	p.On("RETR /big").Times(1).ResetData(1 << 20)
type Rule struct {
	p  *Proxy
	re *regexp.Regexp // nil: the connection's start

	// p.mu guards following fields.
	skip, times int // times < 0: no limit
	hits        int
	fault
}

// fault is a rule's effect on one command.
type fault struct {
	reply       string // instead of asking the server
	finalReply  string // instead of the server's final reply
	dropReply   bool
	delay       time.Duration
	closeBefore bool
	closeAfter  bool
	closeReply  bool
	refusePort  bool
	blackhole   bool
	data        dataFault
}

// On adds a rule for commands that match pattern: a regular expression for the whole beginning of the
// line, in any case: "LIST" is every LIST, "LIST|MLSD" both verbs, "RETR .*/a" those of any a. Of
// several rules that match the oldest that isn't used up applies, alone.
func (p *Proxy) On(pattern string) *Rule { return p.addRule(commandPattern(pattern)) }

// OnConnect adds a rule for the start of a session, whose reply is the greeting.
func (p *Proxy) OnConnect() *Rule { return p.addRule(nil) }

func (p *Proxy) addRule(re *regexp.Regexp) *Rule {
	r := &Rule{p: p, re: re, times: -1}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// ClearRules removes all rules.
func (p *Proxy) ClearRules() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

func (r *Rule) set(change func()) *Rule {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	change()
	return r
}

// Times limits the rule to the first n commands that match. Without it, it applies to all.
func (r *Rule) Times(n int) *Rule { return r.set(func() { r.times = n }) }

// Skip lets the first n commands that match pass.
func (r *Rule) Skip(n int) *Rule { return r.set(func() { r.skip = n }) }

// Hits is how many commands the rule was applied to.
func (r *Rule) Hits() int {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.hits
}

// Reply answers with text, of one line or several, and does not pass the command on.
func (r *Rule) Reply(text string) *Rule { return r.set(func() { r.reply = text }) }

// FinalReply passes the command on, and text back in place of the server's final reply.
func (r *Rule) FinalReply(text string) *Rule { return r.set(func() { r.finalReply = text }) }

// DropReply passes the command on and none of its replies back.
func (r *Rule) DropReply() *Rule { return r.set(func() { r.dropReply = true }) }

// Delay passes the command on, and those behind it, so much later.
func (r *Rule) Delay(d time.Duration) *Rule { return r.set(func() { r.delay = d }) }

// CloseBefore closes the session instead of passing the command on.
func (r *Rule) CloseBefore() *Rule { return r.set(func() { r.closeBefore = true }) }

// CloseAfter passes the command on and closes the session at the server's final reply, which the client
// doesn't get: the server did it and the client can't know.
func (r *Rule) CloseAfter() *Rule { return r.set(func() { r.closeAfter = true }) }

// CloseAfterReply closes the session behind the server's final reply.
func (r *Rule) CloseAfterReply() *Rule { return r.set(func() { r.closeReply = true }) }

// CutData ends the data connection of this transfer cleanly after n bytes, for the receiver only: the sender's
// further bytes vanish, and the server's reply is what it would have been.
func (r *Rule) CutData(n int64) *Rule { return r.dataFault(dataFault{cutData, n}) }

// ResetData resets the data connection of this transfer on both sides after n bytes.
func (r *Rule) ResetData(n int64) *Rule { return r.dataFault(dataFault{resetData, n}) }

// StallData lets n bytes of this transfer through and then nothing, until a side resets it or
// the session ends.
func (r *Rule) StallData(n int64) *Rule { return r.dataFault(dataFault{stallData, n}) }

func (r *Rule) dataFault(f dataFault) *Rule { return r.set(func() { r.data = f }) }

// RefuseData, on EPSV or PASV, names a port where nobody listens.
func (r *Rule) RefuseData() *Rule { return r.set(func() { r.refusePort = true }) }

// BlackholeData, on EPSV or PASV, names a port where connections are neither accepted nor refused.
func (r *Rule) BlackholeData() *Rule { return r.set(func() { r.blackhole = true }) }

// match uses the rule for a command: the zero fault if there is none. start says that it is the
// session's start and not a command.
func (p *Proxy) match(line string, start bool) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		switch {
		case start != (r.re == nil), !start && !r.re.MatchString(line), r.times == 0:
			continue
		case r.skip > 0:
			r.skip--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		r.hits++
		return r.fault
	}
	return fault{}
}
