// Package ftptest has what tests of an FTP client need on the other side of the wire:
//
//   - [Start]: vsftpd, ProFTPD, Pure-FTPd or pyftpdlib, run for one test on loopback. They are
//     installed by .ci/setup; a test skips where one is missing, and fails if CI=true.
//   - [NewServer]: an FTP server inside the test process, which needs nothing installed.
//   - [NewProxy]: a proxy for any of them that injects faults and latency and records commands.
//   - [NewScript]: a server that answers from a script, for what no well-behaved server sends.
//
// Everything ends with the test that started it: sessions, processes, files. Functions that take
// a testing.TB end the test on failure and are called from its own goroutine.
//
// Where the tests run as root, the sessions of real servers are dropped to the account nobody (vsftpd: to
// one of its own), so that permissions mean something; files that a test lays under [Server.Root] behind the
// server's back are best made with [Server.WriteFile] and [Server.Mkdir], which give them to that
// account.
package ftptest
