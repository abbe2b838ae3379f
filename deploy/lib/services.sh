# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # the addresses are read by name in write_env; PORT comes from ports.sh
# Posto's own processes: build, database roles, start, scale, and the file .local/env.

readonly LOOPBACK=127.0.0.1

# --- addresses --------------------------------------------------------------------------------

set_addresses() {
    API_LISTEN=$LOOPBACK:${PORT[api]}
    ADMIN_LISTEN=$LOOPBACK:${PORT[admin]}
    POSTO_API_URL=http://$API_LISTEN
    POSTO_ADMIN_URL=http://$ADMIN_LISTEN
    GATEWAY_SIM_URL=http://$LOOPBACK:${PORT[sim]}
    INGEST_METRICS_URL=http://$LOOPBACK:${PORT[ingest_ops]}/metrics
    ROUTER_WORKER_METRICS_URL=http://$LOOPBACK:${PORT[router_ops]}/metrics
    DELIVERY_WORKER_METRICS_URL=http://$LOOPBACK:${PORT[delivery_ops]}/metrics
    WEBHOOK_URL=$POSTO_API_URL/api/whatsapp/webhook
    OWNER_URL=${BORROWED_DATABASE_URL:-$(postgres_url posto "$POSTO_DB_PASSWORD" posto)}
    BROKER_URL=${BORROWED_AMQP_URL:-$(rabbitmq_url)}
    MANAGEMENT_URL=$BORROWED_MANAGEMENT_URL
    [[ -n $BORROWED_AMQP_URL ]] || MANAGEMENT_URL=$(rabbitmq_management_url)
}

ensure_service_secrets() {
    local name
    for name in POSTO_TOKEN POSTO_ADMIN_TOKEN PIXELHUB_WHATSAPP_WEBHOOK_SECRET ASAAS_WEBHOOK_TOKEN \
        WPP_GATEWAY_SECRET POSTO_DB_PASSWORD POSTO_INSPECT_PASSWORD POSTGRES_PASSWORD RABBITMQ_PASSWORD; do
        ensure_secret "$name"
    done
}

# --- build ------------------------------------------------------------------------------------

build_services() {
    local profile=${POSTO_PROFILE:-dev} log=$STATE/log/build.log
    local patience=''
    [[ -d $REPO/target ]] || patience=' (the first time takes some minutes)'
    step "Building, profile $profile$patience"
    # SQLX_OFFLINE: queries are checked against .sqlx/, never against a database that happens to be set.
    (
        cd "$REPO" || exit
        SQLX_OFFLINE=true cargo build --locked --profile "$profile" \
            -p ingest -p router-worker -p delivery-worker -p posto-tests --bins 2>&1 | tee "$log"
    ) 9>&- || build_failed "$log"
    [[ $profile != dev ]] || profile=debug
    BIN=$(target_dir)/$profile
}

target_dir() {
    cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$REPO/Cargo.toml" | jq -r .target_directory
}

build_failed() {
    if grep -q 'No space left' "$1"; then
        die "the disk is full" "free some space ('cargo clean' removes old builds), then run this again"
    elif grep -qE 'failed to (download|get|fetch)|Could not resolve|network' "$1"; then
        die "cargo could not fetch the dependencies" "check the network (or its proxy settings), then run this again"
    fi
    die "the build failed" "the compiler's words are above, and in $(shown_path "$1")"
}

# --- database ---------------------------------------------------------------------------------

# The owner migrates and runs; it may create roles, for migrations do. Passwords go by standard input.
create_database() {
    [[ -z $BORROWED_DATABASE_URL ]] || return 0
    postgres_admin_psql postgres <<SQL
set client_min_messages = warning;
select 'create role posto' where not exists (select from pg_roles where rolname = 'posto') \gexec
alter role posto login createrole password '$POSTO_DB_PASSWORD';
select 'create database posto owner posto' where not exists (select from pg_database where datname = 'posto') \gexec
SQL
}

# posto_inspect reads every row of every tenant and writes nothing.
create_inspection_role() {
    if [[ -n $BORROWED_DATABASE_URL ]]; then
        INSPECTION_URL=$BORROWED_DATABASE_URL
        note "DATABASE_URL in .local/env is the one you gave: an inspection role is made in a private database only"
        return 0
    fi
    INSPECTION_URL=$(postgres_url posto_inspect "$POSTO_INSPECT_PASSWORD" posto)
    postgres_admin_psql posto <<SQL
set client_min_messages = warning;
select 'create role posto_inspect' where not exists (select from pg_roles where rolname = 'posto_inspect') \gexec
alter role posto_inspect login bypassrls password '$POSTO_INSPECT_PASSWORD';
alter role posto_inspect set default_transaction_read_only = on;
grant pg_read_all_data, pg_monitor to posto_inspect;
revoke temporary on database posto from public;
SQL
}

migrate_database() {
    step "Migrating the database"
    run_once migrate "the migration failed" migrate
}

load_reference_data() {
    step "Loading the demo tenant, its channel and the credential of source 'billing'"
    run_once import "the reference data was refused" admin import "$REPO/deploy/demo/reference.json"
    printf '%s' "$POSTO_TOKEN" | run_once import "the credential was refused" admin keys put --source billing --secret-stdin
}

# run_once LOG WHAT_IF_IT_FAILS ARGUMENT...: one command of ingest, as the owner of the database.
run_once() {
    local log=$STATE/log/$1.log failure=$2
    shift 2
    if ! (export_service_env && exec "$BIN/ingest" "$@") >"$log" 2>&1 9>&-; then
        log_tail "$log"
        die "$failure" "the lines above say why; mend it, then run this again"
    fi
}

# --- processes --------------------------------------------------------------------------------

# What every process may read; each one takes what it knows. The caller's RUST_LOG and the like pass.
export_service_env() {
    export DATABASE_URL=$OWNER_URL AMQP_URL=$BROKER_URL
    if [[ -n $MANAGEMENT_URL ]]; then export RABBITMQ_MANAGEMENT_URL=$MANAGEMENT_URL; else unset RABBITMQ_MANAGEMENT_URL; fi
    export PUBLIC_LISTEN=$API_LISTEN ADMIN_LISTEN
    export POSTO_ADMIN_TOKEN ASAAS_WEBHOOK_TOKEN
    # The simulator is on loopback, where no request may go unless it is said.
    export WPP_GATEWAY_BASE_URL=$GATEWAY_SIM_URL WPP_GATEWAY_SECRET OUTBOUND_ALLOW=$LOOPBACK/32
    export PIXELHUB_WHATSAPP_WEBHOOK_URL=$WEBHOOK_URL PIXELHUB_WHATSAPP_WEBHOOK_SECRET
}

start_services() {
    ensure_simulator
    ensure_service ingest "${PORT[ingest_ops]}" ingest run
    ensure_workers router-worker "${PORT[router_ops]}" "$ROUTER_WORKERS"
    ensure_workers delivery-worker "${PORT[delivery_ops]}" "$DELIVERY_WORKERS"
    await_services
}

ensure_simulator() {
    (
        export WPP_GATEWAY_SECRET SIM_LISTEN=$LOOPBACK:${PORT[sim]} SIM_DATA=$STATE/gateway-sim
        export SIM_SESSIONS='Pixel12 Digital' SIM_WEBHOOK_URL=$WEBHOOK_URL SIM_WEBHOOK_SECRET=$PIXELHUB_WHATSAPP_WEBHOOK_SECRET
        ensure_process gateway-sim "${PORT[sim]}" gateway-sim
    )
    READY_URLS[gateway-sim]=$GATEWAY_SIM_URL/_sim/messages
}

# ensure_service NAME OPS_PORT PROGRAM ARGUMENT...
ensure_service() {
    local name=$1 port=$2 ports=$2
    shift 2
    [[ $name != ingest ]] || ports+=" ${PORT[api]} ${PORT[admin]}"
    (
        export_service_env
        export OPS_LISTEN=$LOOPBACK:$port
        ensure_process "$name" "$ports" "$@"
    )
    READY_URLS[$name]=http://$LOOPBACK:$port/readyz
}

# ensure_workers PROGRAM FIRST_OPS_PORT COUNT: the first has the program's name, the next NAME-2 and so on.
ensure_workers() {
    local program=$1 port=$2 count=$3 i name
    for ((i = 1; i <= count; i++)); do
        ensure_service "$(worker_name "$program" "$i")" $((port + i - 1)) "$program" run
    done
    while read -r name; do
        if [[ $name =~ ^$program-([0-9]+)$ ]] && ((BASH_REMATCH[1] > count)); then
            step "Stopping $name"
            stop_process "$name" 60 TERM
        fi
    done < <(recorded_processes)
}

worker_name() { if (($2 == 1)); then printf '%s' "$1"; else printf '%s-%s' "$1" "$2"; fi; }

declare -A READY_URLS=()

# ensure_process NAME PORTS PROGRAM ARGUMENT...: leaves a running one alone unless its program or its
# settings have changed since it was started.
ensure_process() {
    local name=$1 ports=$2 program=$BIN/$3 fingerprint port
    shift 3
    fingerprint=$(fingerprint "$program" "$@")
    if is_running "$name"; then
        [[ $(started_from "$name") != "$fingerprint" ]] || return 0
        step "Restarting $name: its program or its settings have changed"
        stop_process "$name" 60 TERM
    else
        step "Starting $name"
    fi
    for port in $ports; do require_free_port "$port" "$name"; done
    start_process "$name" "$fingerprint" "$program" "$@"
}

fingerprint() {
    local sum
    sum=$({ printf '%s\n' "$@" && stat -c '%s %.9Y' "$1" && service_settings; } | sha256sum)
    printf '%s' "${sum%% *}"
}

# The settings given by export_service_env and ensure_simulator, as they stand in this subshell.
service_settings() {
    env | grep -E '^(DATABASE_URL|AMQP_URL|RABBITMQ_MANAGEMENT_URL|POSTO_|PIXELHUB_|WPP_|ASAAS_|SIM_|OPS_LISTEN|PUBLIC_LISTEN|ADMIN_LISTEN)' | sort
}

await_services() {
    local name
    for name in gateway-sim ingest "${!READY_URLS[@]}"; do
        if ! wait_until 60 service_settled "$name" || is_gone "$name"; then
            log_tail "$STATE/log/$name.log"
            if is_gone "$name"; then
                die "$name ended right after its start" "its last words are above; mend it, then run this again"
            fi
            die "$name runs but is not ready after 60 s" "its last words are above; GET ${READY_URLS[$name]} says what it waits for"
        fi
    done
}

service_settled() { is_gone "$1" || service_ready "$1"; }

service_ready() {
    local status
    status=$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "${READY_URLS[$1]}") || return 1
    # The simulator guards its list with no readiness of its own: an answer is enough there.
    [[ $status == 200 || ($1 == gateway-sim && $status != 000) ]]
}

# --- .local/env -------------------------------------------------------------------------------

write_env() {
    local name fresh=$STATE/env.new
    (
        umask 077
        {
            printf '# Written by deploy/up. Load it with: source .local/env\n'
            for name in POSTO_API_URL POSTO_ADMIN_URL POSTO_TOKEN POSTO_ADMIN_TOKEN \
                PIXELHUB_WHATSAPP_WEBHOOK_SECRET ASAAS_WEBHOOK_TOKEN WPP_GATEWAY_SECRET; do
                write_export "$name" "${!name}"
            done
            printf '# Reads every row of every tenant, writes nothing.\n'
            write_export DATABASE_URL "$INSPECTION_URL"
            write_export AMQP_URL "$BROKER_URL"
            write_export RABBITMQ_MANAGEMENT_URL "$MANAGEMENT_URL"
            for name in GATEWAY_SIM_URL INGEST_METRICS_URL ROUTER_WORKER_METRICS_URL DELIVERY_WORKER_METRICS_URL; do
                write_export "$name" "${!name}"
            done
        } >"$fresh"
    )
    mv "$fresh" "$STATE/env"
}

write_export() { printf 'export %s=%s\n' "$1" "${2@Q}"; }

# stop_services: in the reverse order of their start, workers first.
stop_services() {
    local pattern name
    for pattern in '^delivery-worker' '^router-worker' '^ingest$' '^gateway-sim$'; do
        while read -r name; do
            [[ $name =~ $pattern ]] || continue
            if is_running "$name"; then step "Stopping $name"; fi
            stop_process "$name" 60 TERM
        done < <(recorded_processes)
    done
}
