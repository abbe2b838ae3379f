# shellcheck shell=bash
# format, clippy, documentation, query data, alert rules, dependencies

suite_lint() {
    prepare_machine
    launch_test_servers
    lint
}

# Cheapest first: a misplaced blank is told within a second.
lint() {
    need_component fmt rustfmt
    need_component clippy clippy
    timed 'format' cargo fmt --all --check
    lint_scripts
    if queries_changed; then
        timed 'clippy, and what the queries say' clippy_learning_queries "$STATE/queries.new"
        timed 'query data' check_queries
    else
        timed 'clippy' run_clippy
        note 'query data: unchanged since it was last found in order'
    fi
    lint_rules
    RUSTDOCFLAGS='-D warnings' timed 'documentation' cargo doc "${TEST_BUILD[@]}" --no-deps
    lint_dependencies
}

need_component() {
    cargo "$1" --version >/dev/null 2>&1 || die "cargo $1 is missing" "rustup component add $2"
}

# Only where shellcheck is at hand: it checks us, not the product.
lint_scripts() {
    if ! have shellcheck; then
        note 'shell scripts: not checked, shellcheck is not installed'
        return 0
    fi
    timed 'shell scripts' shellcheck -x deploy/up deploy/down deploy/lib/*.sh tests/run tests/prepare-queries tests/lib/*.sh tests/lib/chaos-servers .ci/run
}

# What Prometheus would do with our rules, and whether each alert fires when it should.
lint_rules() {
    ensure_prometheus
    timed 'alert rules' promtool check rules deploy/prometheus/rules/*.yml
    timed 'scrape configuration' promtool check config deploy/prometheus/prometheus.yml
    timed 'tests of the alert rules' promtool test rules deploy/prometheus/tests/*.yml
}

lint_dependencies() {
    ensure_tool cargo-machete '^0.9'
    timed 'unused dependencies' cargo machete
    if [[ ${POSTO_DENY:-1} == 0 ]]; then
        note 'licences and bans: left out, POSTO_DENY=0'
        return 0
    fi
    ensure_tool cargo-deny '^0.20'
    timed 'licences, bans and sources' cargo deny --locked --log-level error check bans licenses sources
}
