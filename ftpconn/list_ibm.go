package ftpconn

import (
	"bytes"
)

// parseCMS reads VM/CMS and z/VM: file name and type, mode, format, record length, records, blocks, date
// and time. The name is NAME.TYPE.
//
//	DAILY    REPORT    B1 F      72     40     3       8/30/96   7:41:26
//	DRAFTS             B1 DIR    -      -      -       8/30/96   7:41:26
//	DAILY    REPORT  V        72       40        3 2012-08-30 07:41:26 OPER
func (p *listParser) parseCMS(e *Entry) (bool, error) {
	f := &p.fields
	if f.n < 8 || f.n > 10 {
		return false, nil
	}
	date := f.n - 2
	z := len(f.at(f.n-3)) == 10 && f.at(f.n - 3)[4] == '-' // z/VM: with an owner behind
	if z {
		date--
	}
	var s stamp
	if !dosDate(f.at(date), &s) || !clockWord(f.at(date+1), &s) || !validStamp(s) {
		return false, nil
	}
	format := f.at(date - 4)
	names := date - 4
	switch string(format) {
	case "F", "V", "U", "FB", "VB":
		e.Type = File
	case "DIR", "ALIAS", "EXTRN", "ERASED":
		e.Type = Dir
		if string(format) != "DIR" {
			e.Type = Unknown
		}
	default:
		return false, nil
	}
	var number [3]int64
	for i := range number {
		w := f.at(date - 3 + i)
		n, ok := parseInt(w)
		if !ok && string(w) != "-" {
			return false, nil
		}
		number[i] = n
	}
	if z {
		if e.Type == File && number[0] < 1<<31 && number[1] < 1<<31 {
			e.Size = number[0] * number[1] // records of full length
		}
		if owner := f.at(f.n - 1); string(owner) != "-" {
			p.setOwner(e, owner, nil)
		}
	}
	if !z || names == 3 { // a file mode stands before the format
		if names--; names < 1 || len(f.at(names)) > 2 || !isLetter(f.at(names)[0]) {
			return false, nil
		}
	}
	if names < 1 || names > 2 {
		return false, nil
	}
	p.setTime(e, s)
	name := f.at(0)
	if names == 2 {
		name = bytes.Join([][]byte{name, f.at(1)}, []byte("."))
	}
	return true, setName(e, name)
}

// parseMVS reads the datasets and members of MVS and z/OS. Their sizes are tracks or records, which
// say nothing in bytes: unknown.
//
//	Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname
//	DISK07 3390   2012/08/30  2   14  FB     120 24000  PO  DATASET.NAME
//	Migrated                                                DATASET.NAME
//	 Name     VV.MM   Created       Changed      Size  Init   Mod   Id
//	MEMBER    01.07 2011/02/14 2012/08/30 07:41   412   390    0 USER
//	MODULE    003A70 00021C  00 RN RU             31    31
//	USER      JOB00417  OUTPUT    5 Spool Files
func (p *listParser) parseMVS(e *Entry) (bool, error) {
	f := &p.fields
	if f.n < 2 {
		return false, nil
	}
	for _, parse := range [...]func(*listParser, *Entry) (bool, error){
		(*listParser).parseMVSHeader, (*listParser).parseDataset, (*listParser).parseUnmounted, (*listParser).parseMember, (*listParser).parseJob,
	} {
		if ok, err := parse(p, e); ok {
			return true, err
		}
	}
	return false, nil
}

func (p *listParser) parseMVSHeader(*Entry) (bool, error) {
	f := &p.fields
	a, b := string(f.at(0)), string(f.at(1))
	return a == "Volume" && b == "Unit" || a == "Name" && (b == "VV.MM" || b == "Size") || a == "JOBNAME" && b == "JOBID", errSkip
}

// parseDataset reads a line with volume, unit and attributes. Columns may run together, so that it is the
// organisation, next to last, that is looked at: PO and its kin are directories of members.
func (p *listParser) parseDataset(e *Entry) (bool, error) {
	f := &p.fields
	if f.n == 4 && string(f.at(2)) == "VSAM" {
		e.Type = File
		return true, setName(e, unquote(f.at(3)))
	}
	if f.n < 6 || f.n >= maxFields {
		return false, nil
	}
	referred := f.at(2)
	var s stamp
	switch n, count, width := joinedNumbers(referred); {
	case count == 3 && width[0] == 4:
		s = stamp{year: n[0], month: n[1], day: n[2], precision: dayPrecision}
		if !validStamp(s) {
			return false, nil
		}
	case string(referred) != "**NONE**":
		return false, nil
	}
	org := f.at(f.n - 2)
	if !isUpperWord(org[:min(2, len(org))]) || len(org) > 5 {
		return false, nil
	}
	e.Type = File
	if bytes.HasPrefix(org, []byte("PO")) {
		e.Type = Dir
	}
	p.setTime(e, s)
	return true, setName(e, unquote(f.at(f.n-1)))
}

// parseUnmounted reads datasets of which there is only the name: migrated, on tape, archived.
func (p *listParser) parseUnmounted(e *Entry) (bool, error) {
	f := &p.fields
	e.Type = File
	switch a, b := string(f.at(0)), string(f.at(1)); {
	case f.n == 2 && (a == "Migrated" || a == "MIGRAT"):
	case f.n == 3 && b == "Tape":
	case f.n == 3 && a == "Pseudo" && b == "Directory":
		e.Type = Dir
	case f.n == 6 && b == "Not" && bytes.Contains(f.line, []byte(" Not Direct Access Device ")):
	default:
		e.Type = Unknown
		return false, nil
	}
	return true, setName(e, unquote(f.at(f.n-1)))
}

// parseMember reads a member with statistics, or a load module.
func (p *listParser) parseMember(e *Entry) (bool, error) {
	f := &p.fields
	if f.n < 4 {
		return false, nil
	}
	if v := f.at(1); len(v) == 5 && isDigits(v[:2]) && v[2] == '.' && isDigits(v[3:]) && f.n >= 5 {
		var s, created stamp
		if !dosDate(f.at(2), &created) || !dosDate(f.at(3), &s) || !clockWord(f.at(4), &s) || !validStamp(s) {
			return false, nil
		}
		if len(f.at(3)) == 8 { // yy/mm/dd
			return false, nil
		}
		e.Type = File
		p.setTime(e, s)
		return true, setName(e, f.at(0))
	}
	if !isHex(f.at(1), 6) || !isHex(f.at(2), 6) || !isHex(f.at(3), 2) && !isHex(f.at(4), 2) { // an alias has the member's name between
		return false, nil
	}
	e.Type = File
	return true, setName(e, f.at(0))
}

func isHex(w []byte, n int) bool {
	for _, c := range w {
		if !isDigit(c) && (c < 'A' || c > 'F') {
			return false
		}
	}
	return len(w) == n
}

// parseJob reads a job's output in JES: the job's number is its name.
func (p *listParser) parseJob(e *Entry) (bool, error) {
	f := &p.fields
	id := f.at(1)
	if len(id) != 8 || !isUpperWord(id[:1]) || f.n < 3 {
		return false, nil
	}
	switch string(id[:3]) {
	case "JOB", "STC", "TSU":
	default:
		return false, nil
	}
	switch string(f.at(2)) {
	case "OUTPUT", "INPUT", "ACTIVE", "HELD", "FETCH":
	default:
		return false, nil
	}
	if !isDigits(id[3:]) {
		return false, nil
	}
	e.Type = File
	return true, setName(e, id)
}

// unquote takes off the quotes of a fully qualified dataset name.
func unquote(name []byte) []byte {
	if n := len(name); n > 2 && name[0] == '\'' && name[n-1] == '\'' {
		return name[1 : n-1]
	}
	return name
}
