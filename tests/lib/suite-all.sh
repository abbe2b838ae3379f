# shellcheck shell=bash
# everything: lint, tests, the API held to its description (the default)

suite_all() {
    prepare_machine
    launch_test_servers
    lint
    run_tests "$@"
    # Some requests of each kind; `./tests/run api` makes more.
    check_api 6
}
