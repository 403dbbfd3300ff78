#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# The guest's side of `make test`: loads the module, runs tests/guest/NNN-name.sh one after the other, and judges more
# than their exit status: what the kernel's log says since the test began, that no tap and no session is left, that every
# mbuf of the region is free. At the end the module is unloaded and loaded over and over, and no memory may be gone.
#
#	run.sh [OPTION]… [NAME…]	all tests, or those whose name contains one of the words; V=1 shows their output
#	--part N/M			of M guests that share the work, this is the Nth
#	--within SECONDS		begins no further test after so long, and says which ones it has left out
#
# A debug kernel (qemu/debug.config) is slower by SLOWNESS, and asked at the end what leaked and whether it still watches.
#
# Its exit status: 0 all passed, 1 a test failed, 3 the kernel reported something, or something was left behind or leaked,
# whatever the tests themselves said, or none was run: the module does not load, no test is called so. A test's exit
# status: 0 passed, 1 failed, 77 skipped with the reason on its last line. Each runs in mount, pid and network namespaces
# of its own, which take its processes and networks along when it ends, however it ends.

set -euo pipefail

readonly SKIPPED=77 REPORTED=3
# How many times slower than a stock kernel in emulation this one is: whatever waits for something waits so much longer.
if [[ $(uname -r) == *-debug ]]; then SLOWNESS=${SLOWNESS:-12}; else SLOWNESS=${SLOWNESS:-1}; fi
# Seconds for one test; it is killed after that.
readonly SLOWNESS LIMIT=${LIMIT:-$((300 * SLOWNESS))}
HERE=$(cd "$(dirname "$0")" && pwd -P)
NETTAP_MODULE=${NETTAP_MODULE:-$HERE/../build/$(uname -r)/nettap.ko}
PATH=$HERE/../build/target/release:$HERE/../build/target/release/examples:$PATH
readonly HERE
export NETTAP_MODULE PATH SLOWNESS LIMIT NETTAP_TEST=1
# A locale would be a dozen files that each program opens.
export LC_ALL=C

# What a healthy kernel does not print.
readonly COMPLAINTS='BUG[: ]|WARNING:|Oops|general protection|rcu:.*(stall|detected)|INFO: (task|lockdep|trying)|blocked for more than'\
'|(possible|inconsistent) .*lock|unregister_netdevice: waiting|Bad rss-counter|Call Trace|refcount_t:|UBSAN|KASAN|kmemleak'\
'|soft lockup|page_pool.*stalled|nf_conntrack.*leak|list_(add|del) corruption|scheduling while atomic|sleeping function'\
'|ODEBUG|ref_tracker:|workqueue lockup|locking correctness validator|rust_kernel: panicked|rust_panic'
# What the watchers themselves say when a test has taken the memory away. Whether they still watch is asked at the end.
readonly STARVED='kmemleak: Cannot allocate|ref_tracker: memory allocation failure'

passed=0 failed=0 skipped=0 reports=0
# Whatever ends it before the first test must not be taken for a test that failed.
trap '((passed + failed + skipped)) || exit "$REPORTED"' EXIT
OUT=$(mktemp -d)
readonly OUT

# outside: does what tests ask for in the initial pid namespace, the only one that threads of the kernel's are in: lines
# of a file for the answer, and a command. `outside` of lib.sh asks.
outside() {
	local answer command
	while read -r answer command; do
		eval "$command" >"$answer" 2>&1 && echo 0 >"$answer.status" || echo $? >"$answer.status"
	done
}

# The programs that the tests start most. In emulation nearly all the time goes into starting programs, and a good part of
# that into asking the host for their files.
readonly OFTEN='awk bash cmp dmesg grep insmod ip jq mktemp mount nsenter ping rmmod sed sh sleep socat timeout unshare'

# in_memory: their files, and the libraries', move to the layer in memory that the guest has above its root filesystem;
# the module goes without its debugging information, as an installed one does, since all of it is read at each loading.
in_memory() {
	local program name arrow file files=(/etc/ld.so.cache)
	for program in $OFTEN; do
		program=$(type -P "$program")
		files+=("$program")
		while read -r name arrow file _; do
			if [[ $arrow == '=>' ]]; then files+=("$file"); elif [[ $name == /* ]]; then files+=("$name"); fi
		done < <(LD_TRACE_LOADED_OBJECTS=1 "$program")
	done
	# A file of the lower layer is copied up when its times change.
	touch -c "${files[@]}"
	strip --strip-debug -o "$OUT/nettap.ko" "$NETTAP_MODULE"
	NETTAP_MODULE=$OUT/nettap.ko
}

# started VARIABLE: how many processes were ever started.
started() {
	local key value
	while read -r key value _; do
		[[ $key != processes ]] || printf -v "$1" %d "$value"
	done </proc/stat
}

# complaints MARKER: what the kernel's log complains of behind it.
complaints() {
	dmesg | awk -v marker="$1" -v complaints="$COMPLAINTS" -v starved="$STARVED" '
		# Refused memory for a filter is told with a trace, though it is the caller that is told of it too.
		/vmalloc error:/ { told = 1 }
		told && /Call Trace/ { told = 0; next }
		behind && $0 ~ complaints && $0 !~ starved { print; found = 1 }
		index($0, marker) { behind = 1 }
		END { if (!behind) print "the log does not reach back to the beginning of the test"; exit behind && !found }'
}

# idle: no session but those that ask, no tap, every mbuf free, and the balances of taps that have ended close. Packets
# that were made of mbufs may still be under way for a moment.
idle() {
	! ntdrive idle --within $((5 * SLOWNESS)) || return 0
	tapctl session list
	tapctl tap list
	return 1
}

# judge NAME STATUS LOG: prints why a test that says it passed did not.
judge() {
	local marker="nettap-test: $1 begins" good=1
	if complaints "$marker" >"$OUT/complaints"; then
		echo "the kernel complains:"
		dmesg | sed "1,/$marker/d" | grep -E -A 25 "$COMPLAINTS" | head -n 60
		reports=$((reports + 1))
		good=0
	fi
	if [[ -e /dev/nettap ]]; then
		idle || { reports=$((reports + 1)) && good=0; }
	else
		echo "the test left the module unloaded"
		good=0
	fi
	((good))
}

run() {
	local name=$1 log=$OUT/$1.log status=0 start=$EPOCHREALTIME took verdict line lines before after
	# There it can be read while it grows.
	[[ ! -w /out ]] || log=/out/$name.log
	started before
	echo "nettap-test: $name begins" >/dev/kmsg
	timeout --signal=KILL "$LIMIT" unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private -- \
		bash "$HERE/guest/$name.sh" >"$log" 2>&1 </dev/null || status=$?
	((status != 137)) || echo "killed after $LIMIT s" >>"$log"
	judge "$name" >>"$log" || [[ $status -ne 0 && $status -ne $SKIPPED ]] || status=1
	took=$(((${EPOCHREALTIME/./} - ${start/./}) / 100000))
	case $status in
	0) verdict=ok passed=$((passed + 1)) ;;
	"$SKIPPED") verdict=skip skipped=$((skipped + 1)) ;;
	*) verdict=FAIL failed=$((failed + 1)) ;;
	esac
	started after
	mapfile -t lines <"$log"
	printf '%-4s  %-24s %3d.%d s %5d processes' "$verdict" "$name" $((took / 10)) $((took % 10)) $((after - before))
	if [[ $verdict == skip ]]; then printf '  %s' "${lines[-1]}"; fi
	echo
	for line in "${lines[@]}"; do
		case $line in
		'figure: '*) echo "      ${line#figure: }" ;;
		*) [[ $verdict != FAIL && ! ${V:-} ]] || echo "      $line" ;;
		esac
	done
}

# Pages that each processor keeps at hand count as used in meminfo, and may be many megabytes.
available() {
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemFree:|^Buffers:|^Cached:/ { kb += $2 } $1 == "count:" { kb += 4 * $2 } END { print kb }' \
		/proc/meminfo /proc/zoneinfo
}

# Loads, maps the region, unloads: what one round loses, ten rounds lose ten times, and the next ten again; what the
# kernel still frees of the tests, or caches once, shows in one half at most.
leaks() {
	local before after lost=999999
	# The first rounds fill caches of the kernel that stay.
	for _ in {1..3}; do again || return 1; done
	for _ in 1 2; do
		before=$(available)
		for _ in {1..10}; do again || return 1; done
		after=$(available)
		((before - after >= lost)) || lost=$((before - after))
	done
	echo "unloaded, loaded and mapped 10 times, twice: $lost kB of $before kB less"
	rmmod nettap
	! grep -q '\[nettap\]' /proc/vmallocinfo || { grep '\[nettap\]' /proc/vmallocinfo; return 1; }
	unreferenced || return 1
	watched || return 1
	! complaints 'nettap-test: leaks begins' || return 1
	insmod "$NETTAP_MODULE"
	((lost < 3000))
}

# When an emulated processor stands still for long at the wrong moment, the scheduler finds the timer of its server for
# ordinary tasks armed already and warns (hrtimer_forward() in dl_task_timer(), seen before any module was loaded). The
# server protects from real-time tasks, of which the tests have none.
without_fair_server() {
	local runtime
	for runtime in /sys/kernel/debug/sched/fair_server/cpu*/runtime; do
		[[ ! -e $runtime ]] || echo 0 >"$runtime" || true
	done
}

# What the kernel itself lost while it booted is none of ours: kmemleak reports it once, and no more.
forgive_boot() {
	local file=/sys/kernel/debug/kmemleak
	[[ -e $file ]] || return 0
	echo scan >"$file" && echo scan >"$file" && echo clear >"$file"
}

# What kmemleak finds when the module is gone. It forgives what is younger than 5 s, and reports what two scans agree on.
unreferenced() {
	local file=/sys/kernel/debug/kmemleak
	[[ -e $file ]] || return 0
	sleep 6
	{ echo scan >"$file" && echo scan >"$file"; } || { echo "kmemleak has given up" && return 1; }
	cat "$file" >"$OUT/kmemleak"
	[[ ! -s $OUT/kmemleak ]] || { head -n 100 "$OUT/kmemleak" && return 1; }
}

# A checker that gives up says so once, maybe before any test looked.
watched() {
	[[ ! -e /proc/lockdep_stats ]] || grep -q 'debug_locks: *1$' /proc/lockdep_stats ||
		{ echo "lockdep has given up" && return 1; }
	! dmesg | grep -E 'locking correctness validator|ODEBUG disabled|[Kk]memleak.*disabled|stack_depot.*(fail|limit)' ||
		{ echo "a checker has given up" && return 1; }
}

again() {
	rmmod nettap && insmod "$NETTAP_MODULE" && [[ $(ntdrive raw try-map) == ok ]]
}

# tests PART PARTS [WORD…]: their names.
tests() {
	local file word part=$1 parts=$2 number=0
	shift 2
	for file in "$HERE"/guest/[0-9]*.sh; do
		file=${file##*/} file=${file%.sh} number=$((number + 1))
		((number % parts == part % parts)) || continue
		(($#)) || echo "$file"
		for word; do
			[[ $file != *"$word"* ]] || { echo "$file" && break; }
		done
	done
}

main() {
	local name start=$SECONDS part=1/1 within=999999 left_out=()
	while [[ ${1:-} == --* ]]; do
		case $1 in
		--part) part=$2 ;;
		--within) within=$2 ;;
		*) echo "run.sh has no option $1" >&2 && exit 1 ;;
		esac
		shift 2
	done
	without_fair_server
	in_memory
	forgive_boot
	exec {OUTSIDE}> >(outside)
	export OUTSIDE
	grep -q '^nettap ' /proc/modules || insmod "$NETTAP_MODULE"
	mapfile -t names < <(tests "${part%/*}" "${part#*/}" "$@")
	((${#names[@]})) || { echo "no test is called so: $*" >&2 && exit 1; }
	for name in "${names[@]}"; do
		if ((SECONDS - start < within)); then run "$name"; else left_out+=("$name"); fi
	done
	((!${#left_out[@]})) || echo "NOT RUN, $within s being over: ${left_out[*]}"
	echo "nettap-test: leaks begins" >/dev/kmsg
	if leaks >"$OUT/leaks" 2>&1; then
		passed=$((passed + 1))
		echo "ok    no leaks: $(head -n 1 "$OUT/leaks")"
	else
		failed=$((failed + 1)) reports=$((reports + 1))
		echo "FAIL  leaks"
		sed 's/^/      /' "$OUT/leaks"
	fi
	echo "$((SECONDS - start)) s on $(uname -r)"
	echo "$passed passed, $failed failed, $skipped skipped"
	((!reports)) || exit "$REPORTED"
	((failed == 0))
}

main "$@"
