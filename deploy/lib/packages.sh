# shellcheck shell=bash
# shellcheck disable=SC2034 # the oldest versions are read by postgres.sh and rabbitmq.sh
# Finds what the machine lacks and installs it with apt. System services that come with a
# package are neither started nor left to start at the next boot.

readonly POSTGRES_OLDEST=15
readonly RMQ_OLDEST=3.10

# ensure_packages NAME...: NAME is a need (see package_for), not yet a Debian package.
ensure_packages() {
    local need missing=()
    for need in "$@"; do
        need_is_met "$need" || missing+=("$(package_for "$need")")
    done
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
    for need in "$@"; do
        need_is_met "$need" || die "$need is still missing after installing $(package_for "$need")" \
            "install it by hand, then run this again"
    done
}

need_is_met() {
    case $1 in
        postgres) [[ -n $(newest_postgres_bin) ]] ;;
        rabbitmq) [[ -n $(newest_rabbitmq_sbin) ]] && have epmd ;;
        *) have "$1" ;;
    esac
}

package_for() {
    case $1 in
        postgres) printf 'postgresql' ;;
        psql) printf 'postgresql-client' ;;
        rabbitmq) printf 'rabbitmq-server' ;;
        cc) printf 'gcc libc6-dev' ;;
        flock | setsid | setpriv) printf 'util-linux' ;;
        *) printf '%s' "$1" ;;
    esac
}

# Debian keeps one folder per PostgreSQL version; the newest complete one is taken.
newest_postgres_bin() {
    local dir
    while read -r dir; do
        if [[ -x $dir/initdb && -x $dir/postgres && -x $dir/psql ]]; then
            printf '%s' "$dir"
            return 0
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
}

# The commands in /usr/sbin change user and folder; these do not.
newest_rabbitmq_sbin() {
    local dir
    while read -r dir; do
        if [[ -x $dir/rabbitmq-server ]]; then
            printf '%s' "$dir"
            return 0
        fi
    done < <(printf '%s\n' /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin | sort -rV)
}

apt_install() {
    # A need may be two packages, so the words are split on purpose.
    # shellcheck disable=SC2048,SC2206
    local packages=($*)
    local command="apt-get install -y --no-install-recommends ${packages[*]}"
    step "Installing ${packages[*]} (apt)"
    have apt-get || die "this machine has no apt, and ${packages[*]} is missing" \
        "install it with the package manager of this system, then run this again" \
        "or bring your own servers: set DATABASE_URL and AMQP_URL"
    local log=$STATE/log/apt.log
    as_root true 2>/dev/null || become_root_or_die "$command"
    hold_services_back
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } \
        </dev/null >>"$log" 2>&1; then
        let_services_go
        log_tail "$log"
        die "apt could not install ${packages[*]}" \
            "look at $(shown_path "$log"), mend it, then run this again" \
            "or install by hand: sudo $command"
    fi
    let_services_go
    leave_disabled "${packages[@]}"
}

# as_root COMMAND...: as root directly, else by sudo without asking.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

become_root_or_die() {
    local command=$1
    have sudo || die "packages are missing, you are not root, and there is no sudo" \
        "as root, run: $command" "then run this again"
    if [[ -t 0 ]]; then
        note "sudo asks for your password, to install packages"
        sudo -v && return 0
    fi
    die "packages are missing and sudo wants a password that nobody is here to type" \
        "run: sudo $command" "then run this again"
}

# While a package is being set up, Debian asks this file whether its service may start. Ours says
# no only while this script lives: left behind by a power cut, it allows everything.
hold_services_back() {
    [[ ! -e /usr/sbin/policy-rc.d ]] || return 0
    POLICY_FILE=/usr/sbin/policy-rc.d
    as_root tee "$POLICY_FILE" >/dev/null <<POLICY
#!/bin/sh
# Temporary, by deploy/up of Posto: no system service starts while process $$ installs packages.
if kill -0 $$ 2>/dev/null; then exit 101; fi
exit 0
POLICY
    as_root chmod 755 "$POLICY_FILE"
    trap let_services_go EXIT
    trap 'exit 130' INT TERM
}

let_services_go() {
    [[ -n ${POLICY_FILE:-} ]] || return 0
    as_root rm -f "$POLICY_FILE"
    POLICY_FILE=
    trap - EXIT INT TERM
}

# What we installed for private instances shall not start system instances at the next boot.
leave_disabled() {
    [[ -d /run/systemd/system ]] || return 0
    local package
    for package in "$@"; do
        case $package in
            postgresql | rabbitmq-server)
                as_root systemctl disable --quiet "$package" >/dev/null 2>&1 || true
                note "the system service $package stays off ('systemctl enable --now $package' if you want it)"
                ;;
        esac
    done
}

# --- Rust -------------------------------------------------------------------------------------

ensure_rust() {
    have cargo || [[ ! -x $HOME/.cargo/bin/cargo ]] || PATH=$HOME/.cargo/bin:$PATH
    have cargo || die "Rust is missing: there is no cargo in PATH" \
        "install it from https://rustup.rs, open a new shell, then run this again"
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml")
    found=$(cd "$REPO" && cargo --version 2>"$STATE/log/rust.log" | awk '{ print $2 }') || {
        log_tail "$STATE/log/rust.log"
        die "cargo does not run here" "'rustup toolchain install' in this folder fetches the pinned version"
    }
    version_at_least "$found" "$wanted" || die "Rust $found is too old: $wanted or newer is needed" \
        "with rustup: 'rustup update'; without: install it from https://rustup.rs"
}
