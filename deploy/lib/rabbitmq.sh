# shellcheck shell=bash
# A private RabbitMQ: the Erlang VM as a plain process, loopback only, with its own name, cookie,
# ports and port mapper (epmd). It never touches a broker or an epmd of the system.

rabbitmq_prepare() {
    ensure_secret RABBITMQ_PASSWORD
    ensure_secret RABBITMQ_COOKIE
    RMQ_SBIN=$(newest_rabbitmq_sbin)
    RMQ_DIR=$STATE/rabbitmq
    local version=${RMQ_SBIN#*/rabbitmq_server-}
    version=${version%/sbin}
    version_at_least "$version" "$RMQ_OLDEST" || die "RabbitMQ $version is too old: $RMQ_OLDEST or newer is needed" \
        "install a newer one (https://www.rabbitmq.com/docs/install-debian)" \
        "or bring your own broker: set AMQP_URL (and RABBITMQ_MANAGEMENT_URL)"
    mkdir -p "$RMQ_DIR/home" "$RMQ_DIR/mnesia" "$RMQ_DIR/log"
    chmod 700 "$RMQ_DIR"
    # The node's name is part of its data: it stays when the checkout is moved.
    [[ -s $RMQ_DIR/node ]] || printf 'posto-%s@localhost\n' "$STATE_ID" >"$RMQ_DIR/node"
    RMQ_NODE=$(<"$RMQ_DIR/node")
    rabbitmq_write_config
}

rabbitmq_write_config() {
    (
        umask 077
        rm -f "$RMQ_DIR/home/.erlang.cookie"
        printf '%s' "$RABBITMQ_COOKIE" >"$RMQ_DIR/home/.erlang.cookie"
        chmod 400 "$RMQ_DIR/home/.erlang.cookie"
        printf '[rabbitmq_management,rabbitmq_prometheus,rabbitmq_shovel,rabbitmq_shovel_management].\n' >"$RMQ_DIR/enabled_plugins"
        cat >"$RMQ_DIR/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:${PORT[amqp]}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${PORT[management]}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = ${PORT[rabbitmq_metrics]}
default_user = posto
default_pass = $RABBITMQ_PASSWORD
default_user_tags.administrator = true
loopback_users = none
CONF
    )
}

# rabbitmq_launch does not wait until the broker is ready (it boots in some seconds): rabbitmq_await
# does. It does wait until the broker is known, so that whatever happens next, it can be stopped.
rabbitmq_launch() {
    rabbitmq_adopt || true
    epmd_start
    if is_running rabbitmq; then return 0; fi
    local name
    for name in amqp management rabbitmq_metrics erlang_dist; do
        require_free_port "${PORT[$name]}" "RabbitMQ, $name"
    done
    step "Starting RabbitMQ on 127.0.0.1:${PORT[amqp]}, management on 127.0.0.1:${PORT[management]}"
    rabbitmq_spawn
    wait_until 60 rabbitmq_known || rabbitmq_failed
    is_running rabbitmq || rabbitmq_failed
}

# The server's script stays as the parent of the Erlang VM. The process to know is the VM: a kill
# of the script would leave the broker running. So `rabbitmq` is recorded from the VM's own pid file.
rabbitmq_spawn() {
    rm -f "$RMQ_DIR/pid"
    (
        cd "$RMQ_DIR" || exit
        rabbitmq_environment
        raise_open_files
        RABBITMQ_LOGS=- RABBITMQ_PID_FILE=$RMQ_DIR/pid \
            setsid "$RMQ_SBIN/rabbitmq-server" </dev/null >>"$STATE/log/rabbitmq.log" 2>&1 9>&- &
        printf '%s %s\n' "$!" "$(process_birth "$!" || printf gone)" >"$RMQ_DIR/launcher"
    )
}

# rabbitmq_known: has the VM told its pid, or has its launcher given up?
rabbitmq_known() { rabbitmq_adopt || ! rabbitmq_launching; }

rabbitmq_launching() {
    local launcher birth
    [[ -s $RMQ_DIR/launcher ]] || return 1
    read -r launcher birth <"$RMQ_DIR/launcher"
    [[ $(process_birth "$launcher") == "$birth" ]]
}

# A VM whose home is our folder is ours, even when run/ was deleted under it or never written.
rabbitmq_adopt() {
    local pid
    if is_running rabbitmq; then return 0; fi
    [[ -s $RMQ_DIR/pid ]] || return 1
    pid=$(tr -d '[:space:]' <"$RMQ_DIR/pid")
    grep -qzxF -- "$RMQ_DIR/home" "/proc/$pid/cmdline" 2>/dev/null || return 1
    record_process rabbitmq "$pid" rabbitmq-server
}

rabbitmq_environment() {
    unset "${!RABBITMQ_@}"
    unset ERL_LIBS ERL_FLAGS ERL_AFLAGS ERL_ZFLAGS NOTIFY_SOCKET
    export HOME=$RMQ_DIR/home
    export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=${PORT[epmd]}
    export ERL_CRASH_DUMP=$STATE/log/rabbitmq-crash.dump
    export RABBITMQ_NODENAME=$RMQ_NODE
    export RABBITMQ_MNESIA_BASE=$RMQ_DIR/mnesia RABBITMQ_LOG_BASE=$RMQ_DIR/log
    export RABBITMQ_NODE_PORT=${PORT[amqp]} RABBITMQ_DIST_PORT=${PORT[erlang_dist]}
    export RABBITMQ_CONFIG_FILE=$RMQ_DIR/rabbitmq RABBITMQ_CONF_ENV_FILE=/dev/null
    export RABBITMQ_ENABLED_PLUGINS_FILE=$RMQ_DIR/enabled_plugins
    # Erlang's schedulers spin while they wait for work, which the database beside them pays for; and
    # each wakes the next one for a message. It shares this machine: half of the cores are enough.
    local schedulers=$((($(nproc) + 1) / 2))
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none +S $schedulers:$schedulers"
}

# Erlang sizes tables by this limit, and containers often say "a billion".
raise_open_files() {
    local hard
    hard=$(ulimit -Hn)
    if [[ $hard == unlimited ]] || ((hard > 65536)); then hard=65536; fi
    ulimit -n "$hard" || true
}

# Started here, not by the VM, so that it listens on loopback only and ends with the broker.
epmd_start() {
    if is_running epmd; then return 0; fi
    epmd_adopt && return 0
    require_free_port "${PORT[epmd]}" "RabbitMQ, epmd"
    (
        export ERL_EPMD_ADDRESS=127.0.0.1
        cd "$RMQ_DIR" || exit
        start_process epmd "${PORT[epmd]}" epmd -port "${PORT[epmd]}"
    )
    wait_until 10 port_taken "${PORT[epmd]}" || die "epmd, Erlang's port mapper, did not start" \
        "look at $(shown_path "$STATE/log/epmd.log")"
}

# An epmd on our port is ours when it works in our folder; also when our broker runs, for a broker
# that lost its epmd starts another one by itself.
epmd_adopt() {
    local holder pid
    port_taken "${PORT[epmd]}" || return 1
    holder=$(port_holder "${PORT[epmd]}")
    [[ $holder =~ ^epmd\ \(pid\ ([0-9]+)\)$ ]] || return 1
    pid=${BASH_REMATCH[1]}
    is_running rabbitmq || [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$RMQ_DIR" ]] || return 1
    record_process epmd "$pid" "${PORT[epmd]}"
}

rabbitmq_await() {
    wait_until 120 rabbitmq_settled || rabbitmq_failed
    is_running rabbitmq || rabbitmq_failed
    # On by default in a new node, but not in one that was upgraded from a version without it.
    rabbitmq_api -X PUT -H 'content-type: application/json' -d '{"name":"stream_queue"}' \
        feature-flags/stream_queue/enable >/dev/null || warn "the feature flag stream_queue could not be enabled"
}

rabbitmq_failed() {
    log_tail "$STATE/log/rabbitmq.log"
    die "RabbitMQ did not start" "the lines above say why; the whole log is $(shown_path "$STATE/log/rabbitmq.log")"
}

rabbitmq_settled() { is_gone rabbitmq || rabbitmq_ready; }
rabbitmq_ready() { rabbitmq_api "health/checks/port-listener/${PORT[amqp]}" >/dev/null 2>&1; }

# rabbitmq_api CURL_ARGS... PATH. The password goes by standard input, where no process list shows it.
rabbitmq_api() {
    local path=${*: -1}
    printf 'user = "posto:%s"\n' "$RABBITMQ_PASSWORD" |
        curl -fsS --max-time 10 -K - "${@:1:$#-1}" "http://127.0.0.1:${PORT[management]}/api/$path"
}

rabbitmq_stop() {
    RMQ_DIR=$STATE/rabbitmq
    wait_until 30 rabbitmq_known || true
    if ports_known && ! is_running epmd; then
        load_ports
        epmd_adopt || true
    fi
    stop_process rabbitmq 45 TERM
    stop_process epmd 5 TERM
}

rabbitmq_url() { printf 'amqp://posto:%s@127.0.0.1:%s/%%2f' "$RABBITMQ_PASSWORD" "${PORT[amqp]}"; }
rabbitmq_management_url() { printf 'http://posto:%s@127.0.0.1:%s' "$RABBITMQ_PASSWORD" "${PORT[management]}"; }
