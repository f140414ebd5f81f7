package ftpconn

import (
	"context"
	"errors"
	"io/fs"
	"path"
)

// op is what was refused, for looking into why.
type op uint8

const (
	opList op = iota
	opStat
	opRead
	opStore
	opMkdir
	opRmdir
	opRemove
	opRename
	opAttr
)

// explain gives a refusal that says too little ("550 Failed to open file." is all that vsftpd 3.0.3 ever
// says) the Kind that looking around on the server shows. An error that is no refusal, or is
// clear already, is returned as it is. If the look itself fails the refusal stays unexplained.
func (cl *Client) explain(ctx context.Context, o op, p, to string, err error) error {
	var re *ReplyError
	if err == nil || !errors.As(err, &re) || re.Kind != nil {
		return err
	}
	switch re.Code {
	case 450, 501, 550, 553:
	case 451: // a local error of the server; of a transfer it says nothing about names
		if o == opStore || o == opRead || o == opList {
			return err
		}
	default:
		return err
	}
	kind := cl.why(ctx, o, p, to)
	if kind == nil {
		return err
	}
	told := *re
	told.Kind = kind
	return &told
}

// why is the likeliest Kind of a refusal, nil if that can't be seen.
func (cl *Client) why(ctx context.Context, o op, p, to string) error {
	e, err := cl.look(ctx, p)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil
	}
	isDir := e.Type == Dir
	switch o {
	case opList, opStat, opRead, opRemove, opAttr, opRmdir:
		switch {
		case missing:
			return fs.ErrNotExist
		case isDir && (o == opRead || o == opRemove):
			return ErrIsDir
		case !isDir && e.Type == File && (o == opList || o == opRmdir):
			return ErrNotDir
		case isDir && o == opRmdir:
			if l, err := cl.list(ctx, p, nil); err == nil && len(l) > 0 {
				return ErrNotEmpty
			}
		}
	case opMkdir, opStore:
		switch {
		case !missing && o == opMkdir:
			return fs.ErrExist
		case isDir && o == opStore:
			return ErrIsDir
		case missing:
			if parent, err := cl.look(ctx, path.Dir(p)); errors.Is(err, fs.ErrNotExist) {
				return fs.ErrNotExist
			} else if err == nil && parent.Type == File {
				return ErrNotDir
			}
		}
	case opRename:
		if missing {
			return fs.ErrNotExist
		}
		target, err := cl.look(ctx, to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := cl.look(ctx, path.Dir(to)); errors.Is(err, fs.ErrNotExist) {
				return fs.ErrNotExist
			}
		case err == nil && target.Type == Dir && !isDir:
			return ErrIsDir
		case err == nil && target.Type == Dir:
			if l, err := cl.list(ctx, to, nil); err == nil && len(l) > 0 {
				return ErrNotEmpty
			}
			return fs.ErrExist
		case err == nil && isDir:
			return ErrNotDir
		case err == nil:
			return fs.ErrExist // the server does not rename over a file: IIS, Apache FtpServer
		}
	}
	return fs.ErrPermission
}

// look finds one entry by MLST or in its parent's listing; ErrNotExist only if that was seen.
func (cl *Client) look(ctx context.Context, p string) (Entry, error) {
	if p == "/" {
		return Entry{Type: Dir, Size: -1, UID: -1, GID: -1}, nil
	}
	if e, err := cl.stat(ctx, p); err == nil || errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	l, err := cl.list(ctx, path.Dir(p), nil)
	if err != nil && !errors.Is(err, ErrIncomplete) {
		var re *ReplyError
		if errors.As(err, &re) && path.Dir(p) != "/" {
			if up, e := cl.look(ctx, path.Dir(p)); errors.Is(e, fs.ErrNotExist) || e == nil && up.Type == File {
				return Entry{}, fs.ErrNotExist
			}
		}
		return Entry{}, err
	}
	for _, e := range l {
		if e.Name == path.Base(p) {
			return e, nil
		}
	}
	if err != nil {
		return Entry{}, err
	}
	return Entry{}, fs.ErrNotExist
}
