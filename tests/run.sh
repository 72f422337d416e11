#!/bin/sh
# Runs the tests as three queues beside each other, which take about as long, since many tests wait: tests/e2e, with
# whole servers; tests/benchmarks and tests/video, before which, where the CPU has more than AVX2, those that compare
# numbers are run once more, as a CPU with AVX2 computes them; and all others.
# Use: tests/run.sh PYTHON [ARGUMENTS OF PYTEST...]; with arguments, one run takes what they ask for, beside the
# one as AVX2.
set -u
python=$1
shift
servers_log=$(mktemp)
benchmarks_log=$(mktemp)
older_log=$(mktemp)
numeric=''
# the tests start hundreds of processes: where Python may write no bytecode, each would compile these anew
"$python" -m compileall -q -j 0 "$(dirname "$0")/../cpuserve" "$(dirname "$0")/../benchmarks"
if [ $# -eq 0 ]; then # only files that hold such tests are read
    cd "$(dirname "$0")/.." || exit
    numeric="tests/authoring tests/serving $(grep -rl --include='test_*.py' 'mark\.numeric' tests \
        | grep -vE '^tests/(authoring|serving)/' | sort | tr '\n' ' ')"
fi

as_avx2() { # ARGUMENTS OF PYTEST...: those that compare numbers
    if ! grep -qE 'avx512f|avx_vnni' /proc/cpuinfo; then
        echo "no second run: this CPU has no more than AVX2" >"$older_log"
        return 0
    fi
    echo "Again as a CPU with no more than AVX2: what compares numbers" >"$older_log"
    # shellcheck disable=SC2086
    ONEDNN_MAX_CPU_ISA=AVX2 "$python" -m pytest -m "numeric and not frameworks" $numeric "$@" >>"$older_log" 2>&1
    found=$?
    [ $found -eq 5 ] && found=0 # nothing that compares numbers was asked for
    return $found
}

if [ $# -eq 0 ]; then
    "$python" -m pytest tests/e2e >"$servers_log" 2>&1 &
    servers=$!
    (
        as_avx2
        found=$?
        "$python" -m pytest tests/benchmarks tests/video >"$benchmarks_log" 2>&1 || exit
        exit $found
    ) &
    third=$!
    "$python" -m pytest --ignore tests/e2e --ignore tests/benchmarks --ignore tests/video
    code=$?
    wait "$servers"
    found=$?
    echo "With whole servers:"
    cat "$servers_log"
    code=$((code ? code : found))
else
    as_avx2 "$@" &
    third=$!
    "$python" -m pytest "$@"
    code=$?
fi
wait "$third"
found=$?
code=$((code ? code : found))
cat "$benchmarks_log" "$older_log"
rm "$servers_log" "$benchmarks_log" "$older_log"
exit "$code"
