package ftpconn

import (
	"errors"
	"fmt"
	"testing"

	"ftpfs/ftpconn/ftptest"
)

// A server that ends its session behind an upload that it confirmed has the file: another session tells the size.
func TestSizeIsAskedForOnAnotherSession(t *testing.T) {
	const bye = "421 Service not available."
	for _, c := range []struct {
		kind ftptest.Kind // vsftpd is asked along with the upload
		says string
		cut  bool // the file
	}{
		{ftptest.Embedded, "", false}, {ftptest.Embedded, "", true}, {ftptest.Embedded, bye, false}, {ftptest.Embedded, bye, true},
		{ftptest.VSFTPD, bye, false}, {ftptest.VSFTPD, bye, true},
	} {
		t.Run(fmt.Sprintf("%v %.3s %v", c.kind, c.says, c.cut), func(t *testing.T) {
			start := ftptest.NewServer
			if c.kind != ftptest.Embedded {
				start = func(t testing.TB, o ftptest.Options) *ftptest.Server { return ftptest.Start(t, c.kind, o) }
			}
			s := start(t, ftptest.Options{})
			p := ftptest.NewProxy(t, s.Addr())
			cfg := at(p.Addr(), s.User, s.Password)
			cfg.CheckUploads = true
			cl := clientOf(t, cfg)
			if err := cl.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			rule := p.On("SIZE").Times(1)
			if c.says == "" {
				rule.CloseBefore()
			} else {
				rule.Reply(c.says).CloseAfterReply()
			}
			if c.cut {
				p.On("STOR").CutData(1000)
			}
			err := put(cl, "/f", Replace, 0, random(5000))
			if c.cut && !errors.Is(err, ErrMismatch) || !c.cut && err != nil {
				t.Errorf("%v\n%s", err, p.Dialog())
			}
			if n := p.Count("STOR"); n != 1 || rule.Hits() != 1 {
				t.Errorf("%d STOR, %d SIZE met with the end of the session\n%s", n, rule.Hits(), p.Dialog())
			}
		})
	}
}
