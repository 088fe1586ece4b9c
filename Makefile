# SPDX-License-Identifier: GPL-2.0-only
# Each command calls one script; see README.md.
.PHONY: run shell test stress bench check series rebase deb clean

run:
	@scripts/run $(if $(CMD),'$(subst ','\'',$(CMD))')

shell:
	@scripts/run -i

# CONFIG=base, stock, debug or rt: that one only
test:
	@scripts/test $(CONFIG)

# SECONDS=n: of each load, 60 by default
stress:
	@scripts/stress $(if $(SECONDS),-t $(SECONDS))

# ROUNDS=n: boots of each kernel
bench:
	@scripts/bench $(if $(ROUNDS),-n $(ROUNDS))

check:
	@scripts/check

series:
	@scripts/series

# KERNEL=6.12.N, or a tarball
rebase:
	@scripts/rebase $(if $(ACCEPT),--accept) $(KERNEL)

# KCONFIG=file: a kernel's configuration, by default the running kernel's
deb:
	@scripts/deb $(KCONFIG)

clean:
	rm -rf build
