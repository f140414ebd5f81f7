package ftpconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Distributed servers (DrFTPD) want to know what a passive data connection is for before they say where it leads: PRET with the command
// that follows. EPSV and PASV are refused until then, in words that name it. Pure-FTPd lists PRET in FEAT, too, and does without it, so
// it is sent only to a server that refused. It costs a round trip, and leaves nothing to be made ahead of need.

// pretError is a refusal of PRET: of the transfer and not of the mode.
type pretError struct{ *ReplyError }

func (e *pretError) Unwrap() error { return e.ReplyError }

func ofPRET(err error) bool {
	var pe *pretError
	return errors.As(err, &pe)
}

// askPassive asks for a passive data connection for cmd.
func (c *Conn) askPassive(ctx context.Context, mode Mode, cmd string) (reply, error) {
	insists := c.site.wantsPRET()
	if insists {
		if err := c.pret(ctx, cmd); err != nil {
			return reply{}, err
		}
	}
	r, err := c.ask(ctx, mode.String(), "")
	var re *ReplyError
	if insists || !errors.As(err, &re) || !strings.Contains(re.Text, "PRET") || !c.site.has("PRET") {
		return r, err
	}
	c.site.log.Info("the server wants to know what a data connection is for", "reason", err)
	c.site.update(func(s *site) { s.pret = true })
	return c.askPassive(ctx, mode, cmd)
}

func (c *Conn) pret(ctx context.Context, cmd string) error {
	r, err := c.raw(ctx, "PRET "+cmd)
	if err == nil && r.class() >= 4 {
		err = &pretError{refusalOf("PRET "+cmd, r, argOf(cmd))}
	}
	if err != nil {
		return fmt.Errorf("announcing a transfer: %w", err)
	}
	return nil
}

func (s *site) wantsPRET() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pret
}
