# shellcheck shell=bash
# every figure of docs/performance.md, measured on this machine; or those that are named

# Three trials each, or LOAD_RUNS. What they gave stays in .local/tests/load.jsonl.
suite_load() {
    prepare_machine
    launch_test_servers
    timed 'build for measuring' cargo build --locked --release --workspace --bins
    await_test_servers
    local trials=$STATE/load.jsonl
    rm -f "$trials"
    timed 'load' target/release/load figures --runs "${LOAD_RUNS:-3}" --to "$trials" --logs "$STATE/log/load" "$@"
    target/release/load report "$trials"
}
