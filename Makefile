# make help says what there is.

VERSION := 0.2.0
RELEASE := 1
ARCH    := $(shell uname -m)

# The exact bytes of the binary depend on nothing but the sources and Go: not on the folder, and not on
# what its builder has set for other programs. Of the package they also depend on rpm, and on the date
# of the last change, for which SOURCE_DATE_EPOCH stands where there is no git.
BUILD := CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false' GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off \
	go build -ldflags '-s -w -X main.version=$(VERSION)'
EPOCH := $${SOURCE_DATE_EPOCH:-$$(GIT_CEILING_DIRECTORIES='$(dir $(CURDIR))' git -c safe.directory='*' log -1 --format=%ct --no-show-signature 2>/dev/null || echo 0)}

.PHONY: help build check test lint vuln fmt pages package bench bench-herd bench-peers mutants demo rpm clean go setup

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

go:
	@test/need-go.sh

setup: go
	@test/setup.sh

build: go ## build dist/soe-agent, static
	@$(BUILD) -o dist/soe-agent ./cmd/soe-agent

check: go ## the fast tests; they need no root
	go vet ./...
	@# Each test has little in memory: with the usual GOGC a sixth of the time is the collector's. -short takes a sample of the
	@# long walks, which make test does whole. Some packages wait for time to pass: four at a time keep two cores busy.
	GOGC=400 test/as-root.sh go test -short -p 4 $(CHECK) ./cmd/... ./internal/... ./policies/... ./systemd/... ./docs/... ./test/awsfake/...

test: setup rpm ## all tests, throw-away machines included (root; installs Debian packages that it misses)
	@test/moto.sh
	@# The long walks over the faults of one thread are no place for races, of which the detector makes quarters of an hour.
	go test -race -timeout 30m -skip 'TestNobodysRightsAreJudgedByALookThatFailed|TestInNoTree' ./cmd/... ./internal/... ./policies/... ./systemd/... ./docs/... ./test/awsfake/...
	go test -timeout 30m -run 'TestNobodysRightsAreJudgedByALookThatFailed|TestInNoTree' ./internal/kind/sudo
	@# Machines mostly wait: four at a time take two cores, and eight gain little and make each other late.
	go test -count=1 -timeout 45m -parallel 4 ./test/...

lint: go ## the linters, pinned in .ci/lint
	cd .ci/lint && go build -o ../../dist/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	dist/golangci-lint run ./...
	@if command -v shellcheck >/dev/null; then git ls-files '*.sh' .ci/run .ci/vuln | xargs shellcheck; fi

vuln: go ## ask the Go vulnerability database; the checker is pinned in .ci/lint
	cd .ci/lint && go build -o ../../dist/govulncheck golang.org/x/vuln/cmd/govulncheck
	.ci/vuln dist/govulncheck

fmt: go ## format the Go sources
	cd .ci/lint && go build -o ../../dist/gofumpt mvdan.cc/gofumpt
	dist/gofumpt -w cmd internal policies test

pages: go
	@rm -rf dist/pages
	@SOURCE_DATE_EPOCH=$(EPOCH) go run -tags pages -ldflags '-X main.version=$(VERSION)' ./cmd/soe-agent dist/pages
	@gzip -n9 dist/pages/man?/*

rpm: go ## build dist/soe-agent-VERSION-RELEASE.ARCH.rpm
	@mkdir -p dist && flock dist/.lock $(MAKE) --no-print-directory package

package: build pages
	@command -v rpmbuild >/dev/null || { echo "rpmbuild is missing: install rpm-build (yum, dnf) or rpm (apt)" >&2; exit 1; }
	@rm -rf dist/rpmbuild && mkdir -p dist/rpmbuild
	@SOURCE_DATE_EPOCH=$(EPOCH) HOME='$(CURDIR)/dist/rpmbuild' rpmbuild -bb --quiet --target $(ARCH)-linux \
		--define 'use_source_date_epoch_as_buildtime 1' --define '_buildhost reproducible' --define '_topdir $(CURDIR)/dist/rpmbuild' --define '_rpmdir $(CURDIR)/dist/rpmbuild' \
		--define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' --define 'soe_source $(CURDIR)' \
		--define 'soe_version $(VERSION)' --define 'soe_release $(RELEASE)' packaging/rpm/soe-agent.spec >/dev/null
	@mv dist/rpmbuild/soe-agent-$(VERSION)-$(RELEASE).$(ARCH).rpm dist/
	@echo dist/soe-agent-$(VERSION)-$(RELEASE).$(ARCH).rpm

demo: setup rpm ## the whole job, before your eyes: a thin machine boots, converges, is broken and mended
	@go run ./test/demo dist/soe-agent-$(VERSION)-$(RELEASE).$(ARCH).rpm

bench: setup build ## measure, and print the figures that test/bench/RESULTS.md keeps
	go test -count=1 -timeout 20m -run '^$$' -bench . ./test/bench

mutants: go ## make mistakes in the sources and count those that the fast tests notice (ten minutes; all: MUTANTS='-for 0')
	test/as-root.sh go run ./test/mutants $(MUTANTS) ./internal/converge ./internal/policysync ./internal/sessionguard ./internal/kind/dropin \
		./internal/kind/sudo ./internal/policy ./internal/schedule ./internal/sudoers

bench-herd: ## have a hundred thousand agents start and wake together, in virtual time (half an hour, 16 GiB)
	go test -count=1 -timeout 3h -v -run TestAHerd ./test/herd -agents 100000

bench-peers: build ## measure side by side with puppet and cfengine, and write the figures to test/bench/RESULTS.md (a quarter of an hour)
	@test/setup.sh peers
	@CGO_ENABLED=0 go run ./test/bench/peers -results test/bench/RESULTS.md

clean: ## remove what was built
	rm -rf dist
