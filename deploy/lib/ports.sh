# shellcheck shell=bash
# shellcheck disable=SC2034 # the limits are read by the scripts that source this
# The loopback ports of one environment. Chosen once as a block, then kept in the file `ports`.

# Offsets from the base. Workers may be scaled, so they own a range each.
declare -rA PORT_OFFSETS=(
    [api]=0 [admin]=1 [ingest_ops]=2
    [router_ops]=10 [delivery_ops]=20
    [sim]=40
    [postgres]=52
    [amqp]=92 [management]=93 [rabbitmq_metrics]=94 [epmd]=95 [erlang_dist]=96
)
readonly MAX_ROUTER_WORKERS=10
readonly MAX_DELIVERY_WORKERS=20

declare -A PORT=()

ports_known() { [[ -s $STATE/ports ]]; }

# A port that an older version did not have yet gets its place in the block.
load_ports() {
    local name number
    plan_ports "$(sed -n 's/^api=//p' "$STATE/ports")"
    while IFS='=' read -r name number; do PORT[$name]=$number; done <"$STATE/ports"
}

# plan_ports BASE: fills PORT, writes nothing.
plan_ports() {
    local name
    for name in "${!PORT_OFFSETS[@]}"; do PORT[$name]=$(($1 + PORT_OFFSETS[$name])); done
}

keep_ports() {
    local name
    for name in "${!PORT[@]}"; do printf '%s=%s\n' "$name" "${PORT[$name]}"; done | sort -t= -k2n >"$STATE/ports.new"
    mv "$STATE/ports.new" "$STATE/ports"
}

valid_port_base() { [[ $1 =~ ^[0-9]{4,5}$ ]] && (($1 >= 1024 && $1 <= 65400)); }

# Is anything listening there, on whichever address? Read from the kernel: a bare machine has no ss.
port_taken() {
    [[ -n $(port_inode "$1") ]]
}

port_inode() {
    { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true; } |
        awk -v port="$(printf '%04X' "$1")" \
            '$4 == "0A" { n = split($2, part, ":"); if (part[n] == port && !seen++) print $10 }'
}

# port_holder PORT: "nginx (pid 123)", as far as this user may see.
port_holder() {
    local inode fd pid
    inode=$(port_inode "$1")
    fd=$({ find /proc/[0-9]*/fd -lname "socket:\\[$inode\\]" 2>/dev/null || true; } | head -n 1)
    if [[ -z $fd ]]; then
        printf 'a process of another user'
        return 0
    fi
    pid=${fd#/proc/}
    pid=${pid%%/*}
    printf '%s (pid %s)' "$(cat "/proc/$pid/comm" 2>/dev/null || printf 'a process')" "$pid"
}

# require_free_port NUMBER LABEL: for a process that is about to be started. PORT_WAY_OUT is set by
# the script, for only that knows how its ports are moved.
require_free_port() {
    ! port_taken "$1" || die "port $1 ($2) is taken by $(port_holder "$1")" "${PORT_WAY_OUT[@]}"
}

# require_free_ports NUMBER...: all at once, so that the user learns of every clash the first time.
require_free_ports() {
    local number taken=()
    for number in "$@"; do
        if port_taken "$number"; then taken+=("$number by $(port_holder "$number")"); fi
    done
    ((${#taken[@]} == 0)) || die "ports are taken: $(joined ', ' "${taken[@]}")" "${PORT_WAY_OUT[@]}"
}
