# make build   bin/ftpfs, static
# make test    everything that is tested, on the servers that .ci/setup installs (Debian, Ubuntu)
# make test-long  the tools on each server, with all that takes hours and much disk
# make demo    a sample site, mounted: needs Go and FUSE only
# make bench   measured, beside the other ways to mount FTP (the slow line needs root)
# make lint    formatting, go vet, direction of imports
# make fuzz    each fuzz target for FUZZTIME
# make install bin/ftpfs and the helper for mount(8)

GO       ?= go
PREFIX   ?= /usr/local
SBINDIR  ?= /sbin
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 1m

.PHONY: build test test-long demo bench lint fuzz install uninstall clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ftpfs ./cmd/ftpfs

# One package at a time: the mount tests measure timeouts, and share the machine's servers.
test: lint
	.ci/setup
	@race=-race; command -v gcc >/dev/null || command -v clang >/dev/null || { race=; echo "no C compiler: testing without the race detector"; }; \
	set -x; $(GO) test $$race -p 1 -timeout 30m ./...

demo: build
	bin/ftpfs demo

# 60 GiB of disk below TMPDIR; FTPFS_FSX_OPS and FTPFS_FSX_SEED say how many operations, and which.
test-long:
	.ci/setup
	FTPFS_LONG=1 $(GO) test -v -timeout 6h -run 'TestFsx|TestTools' ./cmd/ftpfs

# BENCHFLAGS=-quick for a tenth of the size; cmd/bench says what else.
bench: build
	$(GO) run ./cmd/bench $(BENCHFLAGS)

# Imports go one way: cmd -> fs -> cache -> ftpconn, tests included.
lint:
	@unformatted=$$(gofmt -l cmd fs cache ftpconn | tr '\n' ' '); test -z "$$unformatted" || { echo "gofmt -w $$unformatted"; exit 1; }
	$(GO) vet ./...
	@$(GO) list -f '{{$$p := .ImportPath}}{{range .Imports}}{{$$p}} {{.}}{{"\n"}}{{end}}{{range .TestImports}}{{$$p}} {{.}}{{"\n"}}{{end}}{{range .XTestImports}}{{$$p}} {{.}}{{"\n"}}{{end}}' ./... | \
	awk 'BEGIN { rank["ftpconn"] = 1; rank["cache"] = 2; rank["fs"] = 3; rank["cmd"] = 4 } \
	     $$2 ~ /^ftpfs\// { split($$1, a, "/"); split($$2, b, "/"); \
	         if (rank[b[2]] > rank[a[2]]) { print $$1 " must not import " $$2; bad = 1 } } \
	     END { exit bad }'

fuzz:
	@for pkg in $$($(GO) list ./...); do \
	    for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	        echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	    done; done

install: build
	install -D -m 755 bin/ftpfs $(DESTDIR)$(PREFIX)/bin/ftpfs
	install -d $(DESTDIR)$(SBINDIR)
	ln -sfn $(PREFIX)/bin/ftpfs $(DESTDIR)$(SBINDIR)/mount.ftpfs

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/ftpfs $(DESTDIR)$(SBINDIR)/mount.ftpfs

clean:
	rm -rf bin
