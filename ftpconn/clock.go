package ftpconn

import (
	"context"
	"errors"
	"time"
)

// clock is what MDTM's times are ahead of UTC. RFC 3659 section 2.3 says nothing; vsftpd 3.0.3 with use_localtime=YES,
// which Debian and Red Hat ship, gives and takes local time.
type clock struct {
	ahead time.Duration
	known bool
}

// mdtm reads a 213 reply by the site's clock.
func (s *site) mdtm(text string) (time.Time, error) {
	t, err := parseMDTM(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.Add(-s.clock.ahead), err
}

func (s *site) clockAhead() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.ahead
}

// readClock compares the time that the server shows for a file which was uploaded just now with this
// machine's: what differs by whole quarters of an hour is a time zone. It is done once, and only for servers without
// facts, whose times are UTC everywhere.
func (cl *Client) readClock(ctx context.Context, path string) {
	s := cl.site
	s.mu.Lock()
	_, mlst := s.feat["MLST"]
	_, mdtm := s.feat["MDTM"]
	done := s.clock.known || mlst || !mdtm
	s.clock.known = true
	s.mu.Unlock()
	if done {
		return
	}
	var shown time.Time
	_, err := cl.do(ctx, anew, func(c *Conn) error {
		r, err := c.ask(ctx, "MDTM", path)
		if err != nil {
			return err
		}
		shown, err = parseMDTM(r.text())
		return err
	})
	if err != nil {
		var re *ReplyError
		if !errors.As(err, &re) {
			s.update(func(s *site) { s.clock.known = false })
		}
		return
	}
	off := time.Until(shown)
	zone := off.Round(15 * time.Minute)
	if zone == 0 || (off-zone).Abs() > 5*time.Minute || zone.Abs() > 26*time.Hour {
		return
	}
	s.log.Info("the server gives local times", "ahead of UTC", zone)
	s.update(func(s *site) {
		s.clock.ahead = zone
		if s.zoneSet { // it was measured against MDTM
			s.zone += zone
		}
	})
}
