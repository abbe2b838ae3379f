# shellcheck shell=bash
# everything: lint, then tests (the default)

suite_all() {
    prepare_machine
    launch_test_servers
    lint
    run_tests "$@"
}
