package ftptest

import (
	"net"
	"sync"
	"time"
)

// lane delivers bytes to a connection in order, each when its time has come and the line isn't frozen.
// One goroutine sends and ends at a time.
type lane struct {
	p     *Proxy
	dst   net.Conn
	queue chan parcel
	// gone is closed when nothing can be delivered any more.
	gone chan struct{}
	once sync.Once
}

type parcel struct {
	data []byte
	due  time.Time
	end  ending
}

// ending is what follows the last byte.
type ending int

const (
	notYet   ending = iota
	finish          // FIN, the other direction stays open
	closeAll        // close
	abort           // RST
)

// laneChunks bounds what is under way in one direction: 256 chunks of 64 KiB, more than 600 Mbit/s
// at 200 ms need.
const (
	laneChunks = 256
	chunkSize  = 64 << 10
)

func newLane(p *Proxy, dst net.Conn) *lane {
	l := &lane{p: p, dst: dst, queue: make(chan parcel, laneChunks), gone: make(chan struct{})}
	p.tasks.Go(l.deliver)
	return l
}

// send queues data, which the lane owns from now on, to arrive after delay; false if it can't.
func (l *lane) send(data []byte, delay time.Duration) bool {
	return l.put(parcel{data: data, due: time.Now().Add(delay)})
}

// end queues the connection's end. Nothing may be sent after it.
func (l *lane) end(how ending, delay time.Duration) {
	l.put(parcel{end: how, due: time.Now().Add(delay)})
}

func (l *lane) put(item parcel) bool {
	select {
	case l.queue <- item:
		return true
	case <-l.gone:
		return false
	}
}

// stop gives the lane up: what is queued isn't delivered.
func (l *lane) stop() { l.once.Do(func() { close(l.gone) }) }

func (l *lane) deliver() {
	defer l.stop()
	for {
		var item parcel
		select {
		case item = <-l.queue:
		case <-l.gone:
			return
		case <-l.p.done:
			return
		}
		l.p.sleep(time.Until(item.due))
		select {
		case <-l.p.thaw():
		case <-l.gone:
			return
		case <-l.p.done:
			return
		}
		switch item.end {
		case notYet:
			if _, err := l.dst.Write(item.data); err != nil {
				return
			}
			continue
		case finish:
			if tcp, ok := l.dst.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
		case closeAll:
			l.dst.Close()
		case abort:
			reset(l.dst)
		}
		return
	}
}
