package ftpconn

import "sync/atomic"

// traffic counts the transfers of files; listings are not among them.
type traffic struct {
	downloads, uploads, failed atomic.Uint64
	received, sent             atomic.Int64
}

// Traffic is what a Client has transferred of files since it was made.
type Traffic struct {
	Downloads     uint64 // begun: RETR accepted
	Received      int64  // bytes
	Uploads       uint64 // confirmed by the server
	UploadsFailed uint64 // begun and not confirmed
	Sent          int64  // bytes, of all uploads
}

// Traffic returns the counters. Safe for concurrent use.
func (cl *Client) Traffic() Traffic {
	t := &cl.traffic
	return Traffic{t.downloads.Load(), t.received.Load(), t.uploads.Load(), t.failed.Load(), t.sent.Load()}
}

// countedDownload is a download whose bytes are counted.
type countedDownload struct {
	*download
	t *traffic
}

func (d countedDownload) Read(p []byte) (int, error) {
	n, err := d.download.Read(p)
	d.t.received.Add(int64(n))
	return n, err
}

// ended counts an upload that is over.
func (t *traffic) ended(err error) {
	if err == nil {
		t.uploads.Add(1)
	} else {
		t.failed.Add(1)
	}
}
