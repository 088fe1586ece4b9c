# SPDX-License-Identifier: GPL-2.0-only
# Each command calls one script; see README.md.
.PHONY: run shell test mutate stress bench check series clean

run:
	@scripts/run $(if $(CMD),'$(subst ','\'',$(CMD))')

shell:
	@scripts/run -i

# CONFIG=base or CONFIG=debug: one of the two only
test:
	@scripts/test $(CONFIG)

# NAME=...: these faults only
mutate:
	@scripts/mutate $(NAME)

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

clean:
	rm -rf build
