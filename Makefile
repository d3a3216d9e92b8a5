# Every target sets up what it needs (scripts/setup.sh) and is quick when there is nothing to set up.
#
#   make demo [ARGS=--keep]    the whole of lbd in a lab of network namespaces (root)
#   make test [ONLY=pattern]   every test of this machine; ONLY filters by file path, else by test name
#   make vm-test [ONLY=file]   all tests of the package on machines in emulation, within 15 min; `make test` has the shortest
#   make sim-full [ONLY=file]  the simulation with as many seeds as its figures ask for: hours
#   make check                 types, lint and format, import floors and style, dead code
#   make soak [SECONDS=60] [SEED=n]   the simulation with random seeds, or with one again
#   make bench [ONLY=name]     every benchmark, or one
#   make binary                build/lbd and build/lbctl, the single executable
#   make deb                   the Debian package, build/lbd_<version>_<architecture>.deb
#   make apt-repo [KEY=file]   a signed repository with it for apt, build/apt
#   make format                write what `make check` would ask for
#   make clean                 remove what was built (node_modules stays)

SHELL := /bin/bash
.DEFAULT_GOAL := help
# nft, tcpdump and arping are in sbin, which is not on a plain user's PATH.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin

NODE := node_modules/.bin/node
BIN := node_modules/.bin

.PHONY: help setup setup-tests demo test vm-test sim-full check check-types check-lint check-floors check-dead bench soak binary deb apt-repo format clean

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@scripts/setup.sh

binary: setup
	@flock .cache/binary.lock $(NODE) scripts/build-sea.mjs

# DEB_ARGS are arguments of scripts/build-deb.ts, such as `--compression zstd`.
deb: binary
	@$(NODE) scripts/build-deb.ts $(DEB_ARGS)

apt-repo: binary
	@$(NODE) scripts/build-apt-repo.ts $(if $(KEY),--key '$(KEY)') "$$($(NODE) scripts/build-deb.ts $(DEB_ARGS))"

demo: binary
	@$(NODE) scripts/demo.ts $(ARGS)

setup-tests:
	@scripts/setup.sh tests

test: setup-tests binary
	@$(NODE) scripts/run-tests.ts $(if $(ONLY),'$(ONLY)')

vm-test: setup-tests binary
	@LBD_VM=all LBD_BOUNDS=count $(NODE) scripts/run-tests.ts 'test/vm/.*$(ONLY)'

sim-full: setup
	@LBD_SIM=full $(NODE) scripts/run-tests.ts 'test/sim/.*$(ONLY)'

soak:
	@SECONDS='$(or $(SECONDS),60)' SEED='$(SEED)' $(NODE) --min-semi-space-size=64 --max-semi-space-size=64 test/sim/soak.ts

bench: binary
	@ONLY='$(ONLY)' $(NODE) bench/run.ts $(if $(ONLY),'$(ONLY)')

check: setup
	@$(MAKE) --no-print-directory -j2 --output-sync=target --keep-going check-types check-lint check-floors check-dead
	@echo 'check: types, lint, format, import floors and dead code are in order'

check-types:
	@$(BIN)/tsc -p .

check-lint:
	@$(BIN)/biome ci --colors=off --error-on-warnings --no-errors-on-unmatched .

check-floors:
	@$(NODE) scripts/check-floors.ts

check-dead:
	@$(BIN)/knip --no-progress

format: setup
	@$(BIN)/biome check --write .

clean:
	rm -rf build .cache
