# shellcheck shell=bash
# every test, without the lint

suite_tests() {
    prepare_machine
    launch_test_servers
    run_tests "$@"
}

# The tests alone are built with failpoints.
readonly TEST_BUILD=(--locked --workspace --features posto-tests/failpoints)

# nextest runs each test in a process of its own and ends one that hangs. Building it takes about
# ten minutes, so it is used where it is and never asked for.
run_tests() {
    forget_tool_builds
    ensure_prometheus
    if have cargo-nextest; then
        timed 'build of the tests' cargo nextest run "${TEST_BUILD[@]}" --no-run
        await_test_servers
        timed 'tests' cargo nextest run "${TEST_BUILD[@]}" "$@"
        if has_doc_tests; then timed 'tests in the documentation' cargo test --locked --workspace --doc; fi
    else
        note "cargo-nextest is not installed: cargo test runs the same tests"
        timed 'build of the tests' cargo test --locked --workspace --no-run
        await_test_servers
        timed 'tests' cargo test --locked --workspace --no-fail-fast "$@"
        timed 'chaos, its short form' cargo test "${TEST_BUILD[@]}" --test chaos brief_ -- --test-threads=1
    fi
}

need_nextest() {
    have cargo-nextest || die "cargo-nextest is missing, and this suite needs it" "cargo install --locked cargo-nextest"
}

# has_doc_tests: does any comment open a block of Rust? Opening and closing fences alternate.
has_doc_tests() {
    local file
    while read -r file; do
        if awk '
            match($0, /^[[:space:]]*\/\/[\/!][[:space:]]*```/) {
                if (open) { open = 0; next }
                open = 1
                rest = substr($0, RLENGTH + 1)
                if (rest ~ /^[[:space:]]*$/ || rest ~ /(^|,)(rust|no_run|should_panic|compile_fail|edition20)/) found = 1
            }
            END { exit !found }' "$file"; then
            return 0
        fi
    done < <(find shared ingest router-worker delivery-worker tests -name '*.rs' -path '*/src/*')
    return 1
}
