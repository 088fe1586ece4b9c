# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
# What the other scripts share: paths, messages, running a long step with a log.
# Sourced, never run.

KVERSION=6.12.117		# the pinned kernel

# What is said is read by scripts, too; and neither what make was called
# with nor settings for other kernels are for the makefiles called here.
export LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS MAKEOVERRIDES ARCH CROSS_COMPILE LLVM KBUILD_OUTPUT

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$PROJECT/build
TREE=$BUILD/linux		# the pinned kernel with the series pushed
LOGS=$BUILD/logs
JOBS=${JOBS:-$(nproc)}

# The tarball and ccache's files outlive a clone.
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/bpf-maps

# What a program or a test of the verifier mentions when it is about our map types.
TYPES='RINGBUF|bpf_ringbuf_|MAP_TYPE_(STACK|QUEUE|CPUMAP)'
TYPES+='|fixup_map_(ringbuf|stacktrace|event_output)'
TYPES+='|bpf_(get_stack|get_stackid|get_task_stack|map_(push|pop|peek)_elem)\b'

# What the kernel prints when it complains of itself.
SPLATS='WARNING:|BUG:|kernel BUG at|Oops|Kernel panic|general protection fault|double fault'
SPLATS+='|KASAN:|KCSAN:|KFENCE:|UBSAN:|ODEBUG:|refcount_t:|list_(add|del) corruption'
SPLATS+='|INFO: (possible|task|trying to register|inconsistent|suspicious)|suspicious RCU usage'
SPLATS+='|rcu: INFO:|soft lockup|hard LOCKUP|unreferenced object|Bad page|bad: scheduling'
SPLATS+='|DEBUG_LOCKS_WARN_ON|sleeping function called|page_pool_release_retry\(\) stalled'
SPLATS+='|unregister_netdevice: waiting for'

# The files that the series replaces, and where it moves them.
STOCK_FILES="queue_stack_maps.c ringbuf.c stackmap.c cpumap.c"

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	say "${0##*/}: $*"
	exit 1
}

# misuse WHAT: of the arguments
misuse()
{
	say "${0##*/}: $*; $0 -h tells its use"
	exit 2
}

# whole WHAT VALUE: a whole number above 0
whole()
{
	[[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || misuse "$1 must be a whole number above 0, not '$2'"
}

# need_config NAME: base, or a fragment in scripts/config
need_config()
{
	[ -e "$PROJECT/scripts/config/$1.config" ] || misuse "no such kernel: '$1'; there are" \
		"$(cd "$PROJECT/scripts/config" && echo *.config | sed 's/\.config//g')"
}

# -h: the comment at the top of the script that was called
case ${1-} in
-h|--help) sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"; exit;;
esac

# have_room DIR MIB: DIR can be made and written, and has room for MIB more
have_room()
{
	local probe=$1/.probe.$$ avail
	mkdir -p "$1" 2>/dev/null || return 1
	(echo probe >"$probe") 2>/dev/null && [ -s "$probe" ] ||
		{ rm -f "$probe"; return 1; }
	rm -f "$probe"
	avail=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "$avail" -ge "$2" ]
}

# need_room MIB: the build folder has room for that much more
need_room()
{
	have_room "$BUILD" "$1" || die "$BUILD needs $1 MiB of free space"
}

# copy_build FROM TO: a build folder to start from, whole or not at all
copy_build()
{
	rm -rf "$2" "$2.new"
	cp -a --reflink=auto "$1" "$2.new"
	rm -f "$2.new/.built" "$2.new/.configured"
	mv "$2.new" "$2"
}

case $PROJECT in
*[[:space:],:]*) die "the project's path must be without white space, comma and colon: $PROJECT";;
esac
mkdir -p "$BUILD" "$LOGS" 2>/dev/null && [ -w "$BUILD" ] && [ -w "$LOGS" ] ||
	die "cannot write to $BUILD: a full disk, or another user's?"

# step NAME WHAT COMMAND...: run a long command with its output in a log, show that it
# moves, and end with the log's last lines and the command to repeat when it fails, then $HINT
step()
{
	local log=$LOGS/$1.log what=$2 start=$SECONDS pulse rc
	shift 2
	say "$what (log: ${log#"$PROJECT"/})"
	# Ends when this does, however that happens.
	exec {pulse}> >(until read -r -t 30 || [ $? -le 128 ]; do
		say "  $((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c 1-70)"
	done)
	# In front, where Ctrl-C reaches it.
	set +e
	(exec {pulse}>&-; set -e; "$@") >"$log" 2>&1 </dev/null
	rc=$?
	set -e
	exec {pulse}>&-
	if [ "$rc" -ne 0 ]; then
		if ! have_room "$BUILD" 20 || grep -q 'No space left on device' "$log"; then
			HINT="the disk is full: $BUILD"
		fi
		tail -n 30 "$log" >&2
		say "FAILED with status $rc: $what"
		say "log: $log"
		say "to repeat: ${REPEAT:-$0 ${ARGS:-}}"
		[ -z "${HINT:-}" ] || say "${0##*/}: $HINT"
		exit "$rc"
	fi
	say "  done in $((SECONDS - start)) s"
}

# emulated: guests run under QEMU's TCG, as scripts/boot has found out
emulated()
{
	grep -qs ' tcg$' "$BUILD/boot/accel"
}

# stale_int3 LOG: the guest died of a breakpoint that memory did not have. While code is patched (a
# tracepoint attached) it begins with one for a moment, and QEMU's TCG may keep what it
# translated then.
stale_int3()
{
	local code
	code=$(awk '/^(\[[^]]*\] )?Oops: int3: 0000/ { died = 1 }
		died && /^(\[[^]]*\] )?Code: / { print; exit }' "$1")
	[[ $code && $code != *" cc <"* ]]
}

# tap RESULTS PREFIX COMMAND...: what a command that prints TAP says, in lines for scripts/report
tap()
{
	local file=$1 prefix=$2 rc=0
	shift 2
	"$@" | tee "$BUILD/.tap" || rc=$?
	awk -v prefix="$prefix" -v rc="$rc" '
	/^(not )?ok [0-9]+/ {
		status = /^not/ ? "fail" : "pass"
		name = $0
		sub(/^(not )?ok [0-9]+ (- )?/, "", name)
		why = ""
		if (match(name, / # SKIP ?/)) {
			status = "skip"
			why = substr(name, RSTART + RLENGTH)
			name = substr(name, 1, RSTART - 1)
		}
		print status "\t" prefix ": " name "\t" why
		n++
		bad += status == "fail"
	}
	END {
		if (!n || (rc && !bad))
			print "fail\t" prefix "\tended with status " rc " after " n + 0 " results"
	}' "$BUILD/.tap" >>"$file"
}

# Compilers. ccache makes a second clone's build short; paths in the hash are relative to
# the project, so that the clone may be anywhere. A full or read-only folder is no error.
CC_WRAP=
if command -v ccache >/dev/null && have_room "$CACHE/ccache" 512; then
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$PROJECT CCACHE_NOHASHDIR=1
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-10G}
	CC_WRAP="ccache "
fi

# kbuild O ARGS...: make in the prepared tree, reproducibly
kbuild()
{
	local out=$1
	shift
	make -C "$TREE" O="$out" CC="${CC_WRAP}gcc" HOSTCC="${CC_WRAP}gcc" \
		KBUILD_BUILD_TIMESTAMP="@0" KBUILD_BUILD_USER=bpf KBUILD_BUILD_HOST=maps \
		"$@"
}

# fingerprint FILE...: one hash over names and contents
fingerprint()
{
	sha256sum -- "$@" | sha256sum | cut -d ' ' -f 1
}

# find_clang: in $clang the newest one that has its llvm-strip and is at least 16: older ones cannot
# compile all programs
find_clang()
{
	local name version best=15
	for name in $(compgen -c clang | grep -xE 'clang(-[0-9]+)?' | sort -u); do
		command -v "${name/clang/llvm-strip}" >/dev/null || continue
		version=$("$name" -dumpversion 2>/dev/null | cut -d. -f1) || continue
		((version > best)) && best=$version clang=$name
	done
	((best > 15)) || die "no clang 16 or newer found (Debian: apt-get install clang-19)"
}
