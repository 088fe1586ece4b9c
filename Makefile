# SPDX-License-Identifier: GPL-2.0-only
# Each command calls one script; "make help" lists them, README.md says more.
.PHONY: run shell test test-all kunit progs mutate stress fuzz coverage soak bench check series rebase deb clean help

# Names that are in the environment of many for other reasons: only from the command line
given = $(if $(filter command,$(origin $(1))),$($(1)))

run:
	@scripts/run $(if $(value CMD),'$(subst ','\'',$(value CMD))')

shell:
	@scripts/run -i

test:
	@scripts/test $(CONFIG)

test-all:
	@rc=0; scripts/test base stock debug rt none kcsan || rc=1; \
		scripts/kunit || rc=1; scripts/stress || rc=1; exit $$rc

kunit:
	@scripts/kunit $(call given,ARCH)

progs:
	@scripts/progs $(if $(CONTINUE),-c) $(TEST)

mutate:
	@scripts/mutate $(call given,NAME)

stress:
	@scripts/stress $(if $(SECONDS),-t $(SECONDS))

fuzz:
	@scripts/fuzz $(SECONDS)

soak:
	@scripts/soak $(SECONDS)

coverage:
	@scripts/coverage

bench:
	@scripts/bench $(if $(ROUNDS),-n $(ROUNDS))

check:
	@scripts/check

series:
	@scripts/series

rebase:
	@scripts/rebase $(if $(ACCEPT),--accept) $(KERNEL)

deb:
	@scripts/deb $(KCONFIG)

clean:
	rm -rf build

## make run, make        build all that is missing, boot it in QEMU, give a tour
## make run CMD='...'    run a shell command in the guest instead
## make shell            an interactive shell in the guest
## make test             all tests on base, stock and debug
##      CONFIG=base      on one of base, stock, debug, rt, none, kcsan
## make test-all         on all of these, then kunit and the stress tests
## make kunit            the KUnit suites on arm64, i386, riscv64 and s390x
##      ARCH=...         on these only
## make progs            all of upstream's test_progs on stock and new, in upstream's configuration
##      TEST='...'       these tests only; CONTINUE=1: go on where the last run was ended
## make mutate           break the maps in one place at a time: a test must see each
##      NAME=...         these faults only
## make stress           the ring buffers' stress tests
##      SECONDS=n        for so long each, 60 by default
## make fuzz             fuzz system calls, helpers and memory of all maps
##      SECONDS=n        for so long, 600 by default
## make soak             all stress tests at once, while allocations fail and memory is short
##      SECONDS=n        for so long, 1800 by default
## make coverage         which lines of the maps' files the selftests reach
## make bench            stock against new; build/bench/report.md
##      ROUNDS=n         so many boots of each kernel
## make check            hygiene of the series, its files and its documentation
## make series           write the whole files into the patches that create them
## make rebase           carry the series to another kernel
##      KERNEL=6.12.N    this one, or a tarball; ACCEPT=1: the old files that changed were looked at
## make deb              Debian packages of the patched kernel
##      KCONFIG=FILE     with this configuration, by default the running kernel's
## make clean            remove build/ (the cache is in ~/.cache/bpf-maps)
##
## KERNEL_TARBALL=FILE takes that kernel instead of fetching one, if build/ has none yet.
## Each command is a program in scripts/, whose -h says more. Logs are in build/logs.
help:
	@sed -n 's/^## \?//p' Makefile
