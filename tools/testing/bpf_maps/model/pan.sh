# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What run and run_mutations share. Sourced, never run.

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
model=ringbuf
count=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v spin >/dev/null || ! command -v "${CC:-cc}" >/dev/null; then
	echo "1..0 # SKIP spin or a C compiler is not installed"
	exit 0
fi

# search FLAGS...: all interleavings of one variant of $model, into $work/out. No bitstate
# hashing and no hash compaction: COLLAPSE loses nothing. Partial order reduction, except
# with an NMI, whose "provided" clause it cannot take.
search()
{
	local flags=(-O2 -w -DSAFETY -DCOLLAPSE "-DMEMLIM=${MEMLIM:-4000}")
	case " $* " in
	*" -DNMI"*) flags+=(-DNOREDUCE);;
	esac
	rm -rf "${work:?}"/*
	(
		cd "$work"
		spin -a "$@" "$models/$model.pml" &&
		"${CC:-cc}" "${flags[@]}" -o pan pan.c &&
		./pan -b -n -m100000
	) >"$work/out" 2>&1 || true
}

# complete: the search came to its end, with nothing cut off
complete()
{
	grep -q 'errors: 0$' "$work/out" &&
	! grep -Eq 'not completed|too small|out of memory|MEMLIM|truncated' "$work/out"
}

# found: what pan stopped at, not counting limits of the search
found()
{
	sed -n 's/^pan:1: \(assertion violated .*\|invalid end state.*\) (at depth.*/\1/p' \
		"$work/out"
}

states()
{
	sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/out"
}

# verdict WORD WHAT
verdict()
{
	count=$((count + 1))
	echo "$1 $count - $2"
	[ "$1" = ok ] || { failed=$((failed + 1)); tail -n 30 "$work/out" | sed 's/^/# /'; }
}

finish()
{
	echo "1..$count"
	[ "$failed" -eq 0 ]
}
