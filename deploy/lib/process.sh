# shellcheck shell=bash
# Starts, recognises and ends background processes. run/NAME.pid holds the pid for whoever wants it;
# run/NAME.stamp says which process that was (boot and start time, so that a number that was given
# to another program since is never taken for ours) and what it was started from.

# start_process NAME FINGERPRINT COMMAND...: detached from this terminal; output is appended to the log.
start_process() {
    local name=$1 fingerprint=$2
    shift 2
    # Not a child that a later Ctrl-C or a closed ssh session could reach.
    setsid "$@" </dev/null >>"$STATE/log/$name.log" 2>&1 9>&- &
    record_process "$name" "$!" "$fingerprint"
}

# record_process NAME PID FINGERPRINT
record_process() {
    local birth
    birth=$(process_birth "$2") || birth=gone
    printf '%s\n%s\n' "$birth" "$3" >"$STATE/run/$1.stamp"
    printf '%s\n' "$2" >"$STATE/run/$1.pid.new"
    mv "$STATE/run/$1.pid.new" "$STATE/run/$1.pid"
}

forget_process() { rm -f "$STATE/run/$1.pid" "$STATE/run/$1.stamp"; }

# process_birth PID: boot and start time; fails when there is no such process or it is a zombie.
process_birth() {
    local line='' fields
    { read -rd '' line <"/proc/$1/stat"; } 2>/dev/null || [[ -n $line ]] || return 1
    # The second field is the program's name in brackets and may hold anything.
    read -ra fields <<<"${line##*) }"
    [[ ${fields[0]} != [ZX] ]] || return 1
    printf '%s:%s' "$(</proc/sys/kernel/random/boot_id)" "${fields[19]}"
}

# live_pid NAME: prints the pid while the very process that was recorded lives.
live_pid() {
    local pid birth
    [[ -s $STATE/run/$1.pid && -s $STATE/run/$1.stamp ]] || return 1
    pid=$(<"$STATE/run/$1.pid")
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    birth=$(process_birth "$pid") || return 1
    [[ $birth == "$(sed -n 1p "$STATE/run/$1.stamp")" ]] || return 1
    printf '%s' "$pid"
}

is_running() { live_pid "$1" >/dev/null; }
is_gone() { ! is_running "$1"; }
started_from() { sed -n 2p "$STATE/run/$1.stamp"; }

# recorded_processes: every NAME that has a pid file, alive or not.
recorded_processes() {
    local file
    for file in "$STATE"/run/*.pid; do
        [[ -e $file ]] || continue
        file=${file##*/}
        printf '%s\n' "${file%.pid}"
    done
}

# stop_process NAME SECONDS SIGNAL...: each signal gets its time, then SIGKILL ends it.
stop_process() {
    local name=$1 seconds=$2 pid signal
    shift 2
    if ! pid=$(live_pid "$name"); then
        forget_process "$name"
        return 0
    fi
    for signal in "$@"; do
        kill -s "$signal" "$pid" 2>/dev/null || true
        if wait_until "$seconds" is_gone "$name"; then
            forget_process "$name"
            return 0
        fi
    done
    warn "$name (pid $pid) did not end within $seconds s of $*: killing it"
    kill -s KILL "$pid" 2>/dev/null || true
    wait_until 10 is_gone "$name" || die "$name (pid $pid) survives SIGKILL" \
        "it hangs in the kernel, most often on a disk that does not answer"
    forget_process "$name"
}
