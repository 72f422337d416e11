#!/bin/sh
# Runs the tests: those with whole servers (tests/e2e, tests/benchmarks), which mostly wait, beside the others, so
# that both halves end at about the same time; and, where the CPU has more than AVX2, those that compare numbers
# once more meanwhile, as a CPU with AVX2 computes them.
# Use: tests/run.sh PYTHON [ARGUMENTS OF PYTEST...]; with arguments, one run takes what they ask for.
set -u
python=$1
shift
with_servers='tests/e2e tests/benchmarks'
servers_log=$(mktemp)
older_log=$(mktemp)
servers='' older=''
if grep -qE 'avx512f|avx_vnni' /proc/cpuinfo; then
    numeric=''
    if [ $# -eq 0 ]; then # only files that hold such tests are read
        cd "$(dirname "$0")/.." || exit
        numeric="tests/authoring tests/serving $(grep -rl --include='test_*.py' 'mark\.numeric' tests \
            | grep -vE '^tests/(authoring|serving)/' | sort | tr '\n' ' ')"
    fi
    # shellcheck disable=SC2086
    ONEDNN_MAX_CPU_ISA=AVX2 "$python" -m pytest -m "numeric and not frameworks" $numeric "$@" >"$older_log" 2>&1 &
    older=$!
fi
if [ $# -eq 0 ]; then
    "$python" -m pytest $with_servers >"$servers_log" 2>&1 &
    servers=$!
    "$python" -m pytest --ignore tests/e2e --ignore tests/benchmarks
else
    "$python" -m pytest "$@"
fi
code=$?
if [ -n "$servers" ]; then
    wait "$servers"
    found=$?
    echo "With whole servers:"
    cat "$servers_log"
    code=$((code ? code : found))
fi
if [ -n "$older" ]; then
    wait "$older"
    found=$?
    echo "Again as a CPU with no more than AVX2: what compares numbers"
    cat "$older_log"
    [ $found -eq 5 ] && found=0 # nothing that compares numbers was asked for
    code=$((code ? code : found))
else
    echo "no second run: this CPU has no more than AVX2"
fi
rm "$servers_log" "$older_log"
exit "$code"
