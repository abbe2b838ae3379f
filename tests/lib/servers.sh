# shellcheck shell=bash
# shellcheck disable=SC2034 # PORT_WAY_OUT is read by ports.sh
# The test run's own PostgreSQL and RabbitMQ: made afresh each time, ended with the run, their logs kept.

readonly FIRST_TEST_PORT_BASE=10480

# prepare_machine: what every suite needs before it compiles anything.
prepare_machine() {
    step "Checking this machine"
    ensure_rust
    take_borrowed
    local needs=(curl jq cc flock setsid setpriv)
    if [[ -z $BORROWED_DATABASE_URL ]]; then needs+=(postgres); else needs+=(psql); fi
    if [[ -z $BORROWED_AMQP_URL ]]; then needs+=(rabbitmq); fi
    ensure_packages "${needs[@]}"
    # Query macros and tests see these only where they are given on purpose.
    unset DATABASE_URL AMQP_URL RABBITMQ_MANAGEMENT_URL
    export SQLX_OFFLINE=true
    # A snapshot that differs is a failure, never a new file.
    export INSTA_UPDATE=no
    PATH=$TOOLS/bin:$PATH
}

# launch_test_servers does not wait for the broker, which boots while the code is linted.
launch_test_servers() {
    trap stop_test_servers EXIT
    stop_test_servers
    forget_last_run
    choose_test_ports
    if [[ -z $BORROWED_AMQP_URL ]]; then
        rabbitmq_prepare
        rabbitmq_launch
    fi
    if [[ -z $BORROWED_DATABASE_URL ]]; then
        postgres_prepare
        postgres_start
        TEST_DATABASE_URL=$(postgres_url postgres "$POSTGRES_PASSWORD" postgres)
    else
        TEST_DATABASE_URL=$BORROWED_DATABASE_URL
    fi
}

# await_test_servers: exports what the tests read.
await_test_servers() {
    export AMQP_URL=$BORROWED_AMQP_URL RABBITMQ_MANAGEMENT_URL=$BORROWED_MANAGEMENT_URL
    if [[ -z $BORROWED_AMQP_URL ]]; then
        rabbitmq_await
        AMQP_URL=$(rabbitmq_url)
        RABBITMQ_MANAGEMENT_URL=$(rabbitmq_management_url)
    fi
    export DATABASE_URL=$TEST_DATABASE_URL
}

stop_test_servers() {
    rabbitmq_stop
    postgres_stop
    stop_chaos_servers
}

# The scenarios of the suite `chaos` start their servers themselves, when the first of them runs.
stop_chaos_servers() {
    if [[ -d $REPO/.local/chaos ]]; then "$REPO/tests/lib/chaos-servers" down; fi
}

forget_last_run() {
    local target
    if [[ -L $STATE/postgres ]]; then
        target=$(readlink "$STATE/postgres")
        if [[ $target == /var/tmp/posto-$STATE_ID/postgres ]]; then rm -rf "$target"; fi
    fi
    rm -rf "$STATE/postgres" "$STATE/rabbitmq"
    rm -f "$STATE"/log/{postgres,rabbitmq,epmd}.log
}

# Nobody knows these ports by heart, so a taken block just means the next one.
choose_test_ports() {
    local base=${POSTO_TEST_PORT_BASE:-} attempt
    PORT_WAY_OUT=("end that process, or take other ports: POSTO_TEST_PORT_BASE=20480 ./tests/run")
    if [[ -n $base ]]; then
        valid_port_base "$base" || die "POSTO_TEST_PORT_BASE is a number from 1024 to 65400, not '$base'" "unset it or mend it"
        plan_ports "$base"
        # shellcheck disable=SC2046 # a list of numbers
        require_free_ports $(test_ports)
    else
        for ((attempt = 0; attempt < 100; attempt++)); do
            plan_ports $((FIRST_TEST_PORT_BASE + 100 * attempt))
            if test_ports_free; then break; fi
        done
    fi
    keep_ports
}

test_ports() { printf '%s\n' "${PORT[api]}" "${PORT[admin]}" "${PORT[ingest_ops]}" "${PORT[router_ops]}" "${PORT[delivery_ops]}" "${PORT[postgres]}" "${PORT[amqp]}" "${PORT[management]}" "${PORT[rabbitmq_metrics]}" "${PORT[epmd]}" "${PORT[erlang_dist]}"; }

test_ports_free() {
    local number
    while read -r number; do
        if port_taken "$number"; then return 1; fi
    done < <(test_ports)
}
