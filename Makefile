# `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
.PHONY: help build install demo test mutate race fuzz storm chaos recovery interop lint cross bench bench-go clean packages

FUZZTIME ?= 15s
SEEDS ?= 10000
GATEWAY_SEEDS ?= 1000
CHAOS ?= 20m
RUNS ?= 5
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64

# Debian packages: the peers of the interoperability tests; those with a kernel of their
# own, which is not there for every processor; the race detector's linker; the shells
# whose completions are tried, what checks the manual page, and what starts the unit; what `make bench` measures.
LAB_PACKAGES := iproute2 iputils-ping nftables conntrack ike-scan openssl strongswan-charon strongswan-starter strongswan-swanctl \
	libcharon-extra-plugins libcharon-extauth-plugins libstrongswan-standard-plugins libstrongswan-extra-plugins
GUEST_PACKAGES := user-mode-linux kmod gcc libc6-dev util-linux
RACE_PACKAGES := gcc libc6-dev
SHELL_PACKAGES := zsh fish mandoc systemd
# What libreswan needs. Itself it is only unpacked: installed it would replace files of strongSwan's.
LIBRESWAN_PACKAGES := openssl libnss3-tools libunbound8 libldns3 libevent-core-2.1-7 libevent-pthreads-2.1-7 libcurl3-nss \
	libldap-2.5-0 libcap-ng0 libaudit1 libpam0g libselinux1
LIBRESWAN_DIR := /opt/libreswan
OPENIKED_PACKAGES := openiked openssl
BENCH_PACKAGES := $(LAB_PACKAGES) openvpn

# Where the race detector looks: every package but ike/…, which has no
# goroutines, and the lab, whose goroutines are other processes.
RACE = $(shell go list ./... | grep -vE '/(ike|internal/testing/lab|internal/testing/testsum)(/|$$)')

TESTSUM := go run ./internal/testing/testsum -count=1

# $(call install,PACKAGES): as root on Debian, install what is missing. Where that
# fails, the tests that need it will say so.
install = missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
			|| echo "could not install" $$missing; \
	fi

unpack-libreswan = { echo "unpacking libreswan"; d=$$(mktemp -d) && chmod 755 $$d && ( cd $$d && { apt-get download -qq libreswan || { apt-get update -qq && apt-get download -qq libreswan; }; } >/dev/null ) && \
	dpkg -x $$d/libreswan_*.deb $(LIBRESWAN_DIR); r=$$?; rm -rf $$d; [ $$r = 0 ]; }

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/culvert
	CGO_ENABLED=0 go build -trimpath -o bin/culvert ./cmd/culvert

# Where it is installed; DESTDIR is put in front, for packages.
PREFIX ?= /usr/local
UNITDIR ?= /etc/systemd/system
BINDIR = $(PREFIX)/bin
SHAREDIR = $(PREFIX)/share

install: build ## binary, manual page, completions and systemd unit under PREFIX (/usr/local); DESTDIR for packages
	install -D -m 0755 bin/culvert $(DESTDIR)$(BINDIR)/culvert
	install -d $(DESTDIR)$(SHAREDIR)/man/man8 $(DESTDIR)$(SHAREDIR)/bash-completion/completions \
		$(DESTDIR)$(SHAREDIR)/zsh/site-functions $(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d $(DESTDIR)$(UNITDIR)
	bin/culvert man >$(DESTDIR)$(SHAREDIR)/man/man8/culvert.8
	bin/culvert completion bash >$(DESTDIR)$(SHAREDIR)/bash-completion/completions/culvert
	bin/culvert completion zsh >$(DESTDIR)$(SHAREDIR)/zsh/site-functions/_culvert
	bin/culvert completion fish >$(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d/culvert.fish
	sed 's,@BINDIR@,$(BINDIR),' cmd/culvert/install/culvert.service >$(DESTDIR)$(UNITDIR)/culvert.service
	install -D -m 0644 cmd/culvert/install/culvert.sysusers $(DESTDIR)/usr/lib/sysusers.d/culvert.conf
	@[ -n "$(DESTDIR)" ] || ! command -v systemd-sysusers >/dev/null || systemd-sysusers
	@echo "write /etc/culvert/site.toml, then: systemctl enable --now culvert"

demo: ## two gateways and a tunnel in one unprivileged process
	go run ./cmd/culvert demo

# The longest package first: it mostly waits, and the others run meanwhile.
test: packages ## run all tests; as root with strongSwan as peer (installs Debian packages)
	@$(TESTSUM) -timeout 60m ./internal/testing/lab/interop ./...

packages:
	@if [ "$$(id -u)" != 0 ]; then \
		echo "not root: the interoperability tests with strongSwan will be skipped"; \
	elif ! command -v apt-get >/dev/null; then \
		echo "no apt-get: install strongSwan, iproute2 and nftables by hand"; \
	else \
		$(call install,$(LAB_PACKAGES)); \
		$(call install,$(GUEST_PACKAGES)); \
		$(call install,$(SHELL_PACKAGES)); \
		$(call install,$(LIBRESWAN_PACKAGES)); \
		$(call install,$(OPENIKED_PACKAGES)); \
		[ -x $(LIBRESWAN_DIR)/usr/libexec/ipsec/pluto ] || $(unpack-libreswan) || echo "could not unpack libreswan"; \
	fi

race: ## run the tests of all concurrent code under the race detector
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(call install,$(RACE_PACKAGES)); fi
	@CGO_ENABLED=1 $(TESTSUM) -race -timeout 40m $(RACE)

MUTANTS ?= 100

mutate: ## MUTANTS (100) changes of PKG, and which of them no test notices: make mutate PKG="./sad ./spd/..."
	@[ -n "$(PKG)" ] || { echo 'say which packages: make mutate PKG="./sad ./spd/..."'; exit 1; }
	@go run ./internal/testing/mutate -n $(MUTANTS) $(PKG)

# Go's fuzzing sometimes fails at its time limit with nothing but "context deadline
# exceeded": its workers did not end in time, and no input is at fault. To make each new
# input smaller may take a minute, in which nothing else is tried: it gets 500 tries.
# One binary for all targets of a package: to link one for each takes longer than they run.
fuzz: ## run every fuzz target for FUZZTIME (15s)
	@bad= d=$$(mktemp -d); trap 'rm -rf $$d' EXIT; cache=$$(go env GOCACHE)/fuzz; \
	for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		pkg=$$(go list $$dir) && go test -c -fuzz=. -o $$d/fuzz.test $$dir || { bad+=" $$dir"; continue; }; \
		targets=$$(cd $$dir && $$d/fuzz.test -test.list '^Fuzz') || { echo "$$targets"; bad+=" $$pkg"; continue; }; \
		for target in $$targets; do \
			echo "== $$pkg $$target"; \
			if ( cd $$dir && exec $$d/fuzz.test -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzminimizetime 500x -test.fuzzcachedir $$cache/$$pkg ) >$$d/log 2>&1; then \
				cat $$d/log; \
			elif grep -q '^ *context deadline exceeded' $$d/log && ! grep -q 'Failing input' $$d/log; then \
				sed '/^--- /,$$d' $$d/log; echo "ended at its time limit"; \
			else \
				cat $$d/log; bad+=" $$target"; \
			fi; \
		done; \
	done; [ -z "$$bad" ] || { echo "fuzzing failed:$$bad"; exit 1; }

storm: ## SEEDS (10000) simulated networks for IKE, GATEWAY_SEEDS (1000) for whole gateways
	CULVERT_SEEDS=$(SEEDS) go test ./ike -count=1 -timeout 3h -run '^(TestWeather|TestRekeysOnABadNetwork)$$'
	CULVERT_SEEDS=$(GATEWAY_SEEDS) go test ./internal/gateway -count=1 -timeout 3h -run '^TestTwentyRekeysOnABadNetwork$$'

chaos: packages ## (root) two gateways and all that can happen to them, for CHAOS (20m)
	CULVERT_CHAOS=$(CHAOS) go test ./internal/testing/lab -count=1 -timeout 3h -v -run '^TestChaos$$'

recovery: packages ## (root) how long traffic stops after each single fault, RUNS (5) times each, written to docs/recovery.md
	CULVERT_RECOVERY=$(RUNS) CULVERT_RECOVERY_DOC=$(CURDIR)/docs/recovery.md go test ./internal/testing/lab -count=1 -parallel 3 -timeout 3h -v -run '^TestRecovery$$'

interop: packages ## (root) the matrix with strongSwan, written to docs/interop.md
	@if [ "$$(id -u)" != 0 ]; then echo "make interop needs root: run it with sudo"; exit 1; fi
	@mkdir -p docs
	@CULVERT_INTEROP_DOC=$(CURDIR)/docs/interop.md $(TESTSUM) -timeout 60m ./internal/testing/lab/...

lint: ## gofmt, go vet for each system, staticcheck
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); [ -z "$$unformatted" ] || { echo "gofmt would change:" $$unformatted; exit 1; }
	@for os in linux darwin windows; do echo "go vet ($$os)"; CGO_ENABLED=0 GOOS=$$os go vet ./... || exit 1; done
	@echo staticcheck
	@printf '%s: GOOS=%s CGO_ENABLED=0\n' linux linux darwin darwin windows windows | go run $(STATICCHECK) -matrix ./...

cross: ## build for every platform into bin/
	@for p in $(PLATFORMS); do \
		os=$${p%/*} arch=$${p#*/}; out=bin/culvert-$$os-$$arch; [ $$os != windows ] || out=$$out.exe; \
		echo $$out; CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -o $$out ./cmd/culvert || exit 1; \
	done

# What goes to docs/benchmarks; BENCH are flags, such as
# BENCH="-cells tcp1,udp* -peers culvert,wireguard-go -rounds 3 -seconds 2 -out /tmp/b".
bench: ## (root) Culvert beside other tunnels, to docs/benchmarks; QUICK=1: two minutes, whether it works; BENCH: its flags
	@if [ "$$(id -u)" != 0 ]; then echo "make bench needs root: run it with sudo"; exit 1; fi
	@if command -v apt-get >/dev/null; then $(call install,$(BENCH_PACKAGES)); fi
	@CGO_ENABLED=0 go build -o bin/bench ./benchmarks/bench
	@exec bin/bench $(if $(QUICK),-quick,$(if $(BENCH),,-out docs/benchmarks)) $(BENCH)

bench-go: ## run the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

clean: ## remove what was built
	rm -rf bin
