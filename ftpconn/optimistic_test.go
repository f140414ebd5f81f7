package ftpconn

import (
	"testing"
	"time"

	"ftpfs/ftpconn/ftptest"
)

// A late STOR is what a lost packet on the control connection makes of it.
func TestUploadWhoseCommandIsLate(t *testing.T) {
	for _, kind := range ftptest.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s := ftptest.Start(t, kind, ftptest.Options{})
			p := ftptest.NewProxy(t, s.Addr())
			cl := clientOf(t, at(p.Addr(), s.User, s.Password))
			if err := put(cl, "/first", Replace, 0, []byte("x")); err != nil { // from now on data connections are known to work
				t.Fatal(err)
			}
			p.On("STOR").Delay(300 * time.Millisecond)
			start := time.Now()
			if err := put(cl, "/f", Replace, 0, []byte("content")); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			if got := string(s.ReadFile("f")); got != "content" {
				t.Errorf("stored %q", got)
			}
		})
	}
}
