# SPDX-License-Identifier: GPL-2.0-only
# Each command calls one script; see README.md.
.PHONY: run shell test stress fuzz coverage soak bench check series clean

run:
	@scripts/run $(if $(CMD),'$(subst ','\'',$(CMD))')

shell:
	@scripts/run -i

# CONFIG=base or CONFIG=debug: one of the two only
test:
	@scripts/test $(CONFIG)

# SECONDS=n: of each load, 60 by default
stress:
	@scripts/stress $(if $(SECONDS),-t $(SECONDS))

# SECONDS=n: how long
fuzz:
	@scripts/fuzz $(SECONDS)

soak:
	@scripts/soak $(SECONDS)

coverage:
	@scripts/coverage

# ROUNDS=n: boots of each kernel
bench:
	@scripts/bench $(if $(ROUNDS),-n $(ROUNDS))

check:
	@scripts/check

series:
	@scripts/series

clean:
	rm -rf build
