package main

import (
	"os"
	"reflect"
	"strconv"
	"syscall"
	"testing"
)

func TestSettingsReachTheServingProcessAsTheyAre(t *testing.T) {
	s, err := parseList("active_address=2001:db8::1,active_ports=2000-3000,log_level=debug,uid=7,ro,tls=explicit,account=a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.complete("ftp://u:p%FF%C3%A4@host/%FE"); err != nil {
		t.Fatal(err)
	}
	r, err := settingsPipe(s)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(r.Fd())) // is closed by the reader
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Setenv(stageEnv, strconv.Itoa(fd))
	got, ok, err := inheritedStage()
	s.tlsGiven = false // has done its work
	if !ok || err != nil || !reflect.DeepEqual(got.settings, s) {
		t.Errorf("%v %v\ngot  %+v\nwant %+v", ok, err, got.settings, s)
	}
	if got.settings.URL.Password != "p\xffä" || os.Getenv(stageEnv) != "" {
		t.Errorf("password %q, stage %q", string(got.settings.URL.Password), os.Getenv(stageEnv))
	}
}
