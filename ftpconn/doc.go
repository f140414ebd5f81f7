// Package ftpconn speaks FTP: it makes a Remote, a tree of files that many goroutines may use at
// once, of a server and a set of logged-in sessions. It knows nothing of FUSE or of caching.
//
// # Protocol
//
// RFC 959 (FTP), 2228 and 4217 (TLS), 2389 (FEAT, OPTS), 2428 (EPRT, EPSV), 3659 (MDTM, SIZE, REST,
// MLST, MLSD) and what servers do beside them. The engine is github.com/jlaffaye/ftp, unmodified: log-in,
// transfers and file commands are its. It stands on a link, which is the net.Conn that it
// takes for the server. Above the link there is always a well-behaved passive-mode server near by;
// below it is whatever is really there. So the link and the Conn around it own what the library has
// not: active mode, the choice of mode, TLS on data connections and their orderly end,
// data connections made ahead of need, commands sent together in one packet, raw commands,
// time limits, and the log of the protocol.
//
// # Types
//
//	Client   a Remote: borrows a session, does, classifies the error, perhaps once more, gives it back
//	pool     the sessions: a limit that is learned, FIFO waiters, one session left to metadata
//	Conn     one session: the library's ServerConn over a link, and its data connections
//	link     a control connection: commands out, replies in, in order, by one reader goroutine
//	dataConn a data connection of either direction, in clear or TLS
//	modes    which of EPSV, PASV, EPRT, PORT is in force for the whole site
//
// Listings are parsed here and not by the library (list.go says why in what it accepts).
//
// # Uploads
//
// An upload is confirmed by the server's final reply alone. What else there is to say of it travels with it, where the server reads commands behind a
// transfer (vsftpd): SIZE, which has to be right, and the attributes of a new file ([AttrCloser]). haste.go says how vsftpd is brought
// to confirm after one round trip.
//
// # Locks
//
// A Conn belongs to the goroutine that borrowed it. link.mu and modes.mu are leaves and are never held over
// a network call.
//
// # Errors
//
// A refusal is a *ReplyError with the command, the code and the server's words; its Kind says
// what it means if that is known. A lost or silent connection satisfies IsLost. Passwords appear in
// neither.
package ftpconn
