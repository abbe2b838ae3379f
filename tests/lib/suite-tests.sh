# shellcheck shell=bash
# every test, without the lint

suite_tests() {
    prepare_machine
    launch_test_servers
    run_tests "$@"
}

run_tests() {
    ensure_tool cargo-nextest '^0.9.100'
    forget_tool_builds
    timed 'build of the tests' cargo nextest run --locked --workspace --no-run
    await_test_servers
    # A snapshot that differs is a failure here, never a new file.
    INSTA_UPDATE=no timed 'tests' cargo nextest run --locked --workspace "$@"
    if has_doc_tests; then timed 'tests in the documentation' cargo test --locked --workspace --doc; fi
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
