# shellcheck shell=bash
# shellcheck disable=SC2034 # STATE_ID and the secrets are read by the scripts that source this
# What every script here shares: words to the user, waiting, locks, secrets and the folder
# in which one environment keeps its state. Sourced, never run.

set -euo pipefail
shopt -s inherit_errexit

# `die` leaves with this code, so that the trap below can tell an explained end from a surprise.
readonly EXPLAINED=70

step() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die WHAT [WAY_OUT...]: says what is wrong and how to get out of it, and ends the script.
die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '  -> %s\n' "$line" >&2; done
    exit "$EXPLAINED"
}

# An end that nobody explained still names its place, or the step of a test run (TIMED_STEP).
report_surprise() {
    local code=$?
    if ((code != EXPLAINED && BASH_SUBSHELL == 0)) && [[ -z ${SURPRISED:-} ]]; then
        SURPRISED=yes
        if [[ -n ${TIMED_STEP:-} ]]; then
            printf '\nerror: %s failed\n  -> the lines above say where; mend that, then run this again\n' "$TIMED_STEP" >&2
        else
            printf '\nerror: %s stopped at %s:%s (exit code %s)\n' \
                "${0##*/}" "${BASH_SOURCE[1]#"$REPO"/}" "${BASH_LINENO[0]}" "$code" >&2
            printf '  -> the lines above say why; run it again once that is mended, it continues where it was\n' >&2
        fi
    fi
    return "$code"
}

explain_surprises() {
    set -o errtrace
    trap report_surprise ERR
}

have() { command -v "$1" >/dev/null 2>&1; }

# joined SEPARATOR WORD...
joined() {
    local separator=$1 word
    shift
    printf '%s' "$1"
    shift
    for word in "$@"; do printf '%s%s' "$separator" "$word"; done
}

# wait_until SECONDS COMMAND...: runs COMMAND until it succeeds; fails once the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# log_tail FILE: the end of a log, indented, to stderr.
log_tail() {
    [[ -s $1 ]] || return 0
    printf '\n--- the last lines of %s\n' "$(shown_path "$1")" >&2
    tail -n 20 "$1" | sed 's/^/    /' >&2
}

# shown_path PATH: the path as the user would type it in the checkout.
shown_path() { printf '%s' "${1#"$REPO"/}"; }

# free_mib PATH: MiB free on the file system that holds PATH.
free_mib() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }

require_space() {
    local path=$1 needed=$2 free
    free=$(free_mib "$path")
    ((free >= needed)) || die "the disk is nearly full: $free MiB free under $path, $needed MiB needed" \
        "free some space (old builds go with 'cargo clean'), then run this again"
}

# version_at_least HAVE WANTED
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# --- the state of one environment -------------------------------------------------------------

# open_state DIR: every later function works on this environment: its processes (run/), logs
# (log/), secrets and ports. The demo and the tests are two environments side by side.
open_state() {
    STATE=$1
    mkdir -p "$STATE"
    [[ -O $STATE ]] || die "$(shown_path "$STATE") belongs to $(stat -c %U "$STATE"), and you are $(id -un)" \
        "run this as that user, or remove the folder as that user: './deploy/down --wipe'"
    mkdir -p "$STATE/run" "$STATE/log"
    # PostgreSQL may run as another user (see postgres.sh) and must be able to pass through.
    chmod 755 "$STATE"
    local path_sum
    path_sum=$(printf '%s' "$STATE" | sha256sum)
    STATE_ID=${path_sum:0:8}
    touch "$STATE/secrets"
    chmod 600 "$STATE/secrets"
    # shellcheck source=/dev/null
    source "$STATE/secrets"
}

# lock_state WHO: one script at a time works on an environment. Descriptor 9 holds the lock and
# is closed for every process that is left running (process.sh), which would keep it otherwise.
lock_state() {
    exec 9>>"$STATE/lock"
    if ! flock -n 9; then
        note "waiting for another run to finish: $(tail -n 1 "$STATE/lock")"
        flock -w 600 9 || die "another run still works on $(shown_path "$STATE"): $(tail -n 1 "$STATE/lock")" \
            "let it finish or end it, then run this again"
    fi
    printf '%s (pid %s)\n' "$1" "$$" >"$STATE/lock"
}

# ensure_secret NAME: sets NAME; it is made once and kept. Whether it exists is asked of the file,
# for the caller's shell may have sourced an older .local/env.
ensure_secret() {
    local name=$1
    if ! grep -q "^$name=" "$STATE/secrets"; then
        printf '%s=%s\n' "$name" "$(od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n')" >>"$STATE/secrets"
        # shellcheck source=/dev/null
        source "$STATE/secrets"
    fi
}
