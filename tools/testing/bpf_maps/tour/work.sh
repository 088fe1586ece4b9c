#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What is profiled. Leaves the kernel's symbols in the folder named.
export LC_ALL=C
cp /proc/kallsyms "$1"
"$1/words" 5 </proc/kallsyms >/dev/null &
gzip <"$1/kallsyms" >/dev/null &
for option in -s -n -r -v -m -p -i -o -a; do
	uname $option && uname $option
done >/dev/null
wait
