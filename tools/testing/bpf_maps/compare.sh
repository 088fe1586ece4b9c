#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Old and new implementation in turns:
#
#   compare.sh [-q] [-d dir] [-n rounds] [-t seconds] [-s 'sizes'] [-p 'producers'] [-r] [-- args]
#
# -q measures queues, not ring buffers, where "pipe" is one producer and one consumer. Prints
# medians in millions of records or pops a second, min-max, new/stock, and how much of the time
# was measured. -r runs with real-time priority, on a machine that does other things too; they
# stand still meanwhile. What follows -- goes to the program.
set -eu

dir=. rounds=7 time=0.3 prio='' sizes='8 64 256 1024 4096 16384' producers='1 2'
bench=ringbuf_bench
while getopts qd:n:t:s:p:r opt; do
	case $opt in
	q) bench=queue_bench sizes='8 64' producers='1 2 pipe' ;;
	d) dir=$OPTARG ;;
	n) rounds=$OPTARG ;;
	t) time=$OPTARG ;;
	s) sizes=$OPTARG ;;
	p) producers=$OPTARG ;;
	r) prio='chrt -f 1' ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

printf '%9s %8s  %8s %15s  %8s %15s  %9s  %s\n' producers payload \
	stock min-max new min-max new/stock measured
for p in $producers; do
	case $p in
	pipe) load='-m pipe -p 2' ;;
	*) load="-p $p" ;;
	esac
	for s in $sizes; do
		i=0
		while [ "$i" -lt "$rounds" ]; do
			for which in stock new; do
				printf '%s ' "$which"
				# shellcheck disable=SC2086 # several words
				$prio "$dir/${bench}_$which" $load -s "$s" -t "$time" "$@"
			done
			i=$((i + 1))
		done | sort -k1,1 -k2,2n | awk -v p="$p" -v s="$s" '
			# Rounds in which nothing could be measured do not count.
			$3 > 0 { rate[$1, ++n[$1]] = $2; share[$1] += $3 }
			function median(w) {
				return (rate[w, int((n[w] + 1) / 2)] + rate[w, int(n[w] / 2) + 1]) / 2
			}
			function range(w) {
				return sprintf("%.1f-%.1f", rate[w, 1], rate[w, n[w]])
			}
			END {
				if (!n["stock"] || !n["new"]) {
					printf "%9s %8d  too little processor time\n", p, s
					exit
				}
				printf "%9s %8d  %8.1f %15s  %8.1f %15s  %9.2f  %d%%/%d%%\n", p, s,
					median("stock"), range("stock"), median("new"),
					range("new"), median("new") / median("stock"),
					share["stock"] / n["stock"], share["new"] / n["new"]
			}'
	done
done
