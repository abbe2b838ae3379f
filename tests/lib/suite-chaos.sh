# shellcheck shell=bash
# processes, broker and database killed, cut off and wiped with events under way: every scenario

suite_chaos() {
    prepare_machine
    need_nextest
    export POSTO_CHAOS_REPORT=$STATE/chaos-report.md
    rm -f "$POSTO_CHAOS_REPORT"
    timed 'build of the tests' cargo nextest run "${TEST_BUILD[@]}" --no-run
    trap chaos_over EXIT
    timed 'chaos' cargo nextest run "${TEST_BUILD[@]}" --ignore-default-filter -E 'binary(chaos)' "$@"
}

chaos_over() {
    stop_chaos_servers
    [[ -s $POSTO_CHAOS_REPORT ]] || return 0
    printf '\n| scenario | events | settled after (s) | unknown, then proven | unknown at the end |\n|---|---|---|---|---|\n'
    cat "$POSTO_CHAOS_REPORT"
}
