# shellcheck shell=bash
# A private PostgreSQL: plain process, loopback TCP only, its own port, folder and passwords.
# It never touches the cluster that Debian may have made under /var/lib/postgresql.

# postgres_prepare: picks the version and makes the data folder, once.
postgres_prepare() {
    ensure_secret POSTGRES_PASSWORD
    PG_DATA=$STATE/postgres
    postgres_choose_version
    postgres_choose_user
    if [[ ! -s $PG_DATA/PG_VERSION ]]; then
        step "Making a PostgreSQL data folder in $(shown_path "$PG_DATA")"
        postgres_init
    fi
}

# An existing folder can be read by its own major version only.
postgres_choose_version() {
    local version
    if [[ -s $PG_DATA/PG_VERSION ]]; then
        version=$(<"$PG_DATA/PG_VERSION")
        PG_BIN=/usr/lib/postgresql/$version/bin
        [[ -x $PG_BIN/postgres ]] || die "$(shown_path "$PG_DATA") was made by PostgreSQL $version, which is not installed any more" \
            "install postgresql-$version again, or start anew: './deploy/down --wipe'"
        return 0
    fi
    PG_BIN=$(newest_postgres_bin)
    version=${PG_BIN#/usr/lib/postgresql/}
    version=${version%/bin}
    version_at_least "$version" "$POSTGRES_OLDEST" || die "PostgreSQL $version is too old: $POSTGRES_OLDEST or newer is needed" \
        "add the PostgreSQL project's packages (https://wiki.postgresql.org/wiki/Apt) and install postgresql-$POSTGRES_OLDEST" \
        "or bring your own server: set DATABASE_URL"
}

# PostgreSQL refuses to run as root, so root runs it as the user that Debian's package made.
postgres_choose_user() {
    PG_USER=$(id -un)
    PG_AS=()
    ((EUID == 0)) || return 0
    PG_USER=postgres
    id -u "$PG_USER" >/dev/null 2>&1 || die "there is no user '$PG_USER', and PostgreSQL does not run as root" \
        "run this as a user other than root, or: useradd --system $PG_USER"
    PG_AS=(setpriv "--reuid=$PG_USER" "--regid=$PG_USER" --init-groups --)
}

# Made beside and moved into place, so that a run cut short leaves no half folder.
postgres_init() {
    local home=$STATE fresh password_file
    rm -f "$PG_DATA"
    # A checkout under /root, say, cannot be entered by the other user; its data then lives elsewhere.
    if ((${#PG_AS[@]})) && ! "${PG_AS[@]}" test -x "$STATE"; then
        home=/var/tmp/posto-$STATE_ID
        note "user $PG_USER cannot enter $STATE: the data goes to $home, linked from there"
        own_folder_in_var_tmp "$home"
    fi
    fresh=$home/postgres.new
    rm -rf "$fresh"
    install -d -m 700 -o "$PG_USER" "$fresh"
    password_file=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password_file"
    chown "$PG_USER" "$password_file"
    if ! (cd "$home" && "${PG_AS[@]}" "$PG_BIN/initdb" -D "$fresh" -U postgres --pwfile="$password_file" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8) >>"$STATE/log/postgres.log" 2>&1; then
        rm -f "$password_file"
        log_tail "$STATE/log/postgres.log"
        die "initdb could not make the data folder $fresh" "the lines above say why; mend it, then run this again"
    fi
    rm -f "$password_file"
    if [[ $home == "$STATE" ]]; then
        mv "$fresh" "$PG_DATA"
    else
        rm -rf "$home/postgres"
        mv "$fresh" "$home/postgres"
        ln -s "$home/postgres" "$PG_DATA"
    fi
}

# /var/tmp is everybody's: a folder of that name may be somebody else's.
own_folder_in_var_tmp() {
    mkdir -p "$1"
    [[ ! -L $1 && -O $1 ]] || die "$1 exists and is not yours" "look at it and remove it, then run this again"
    chmod 755 "$1"
}

postgres_start() {
    if is_running postgres; then return 0; fi
    postgres_adopt || postgres_drop_stale_lock
    if is_running postgres; then return 0; fi
    require_free_port "${PORT[postgres]}" PostgreSQL
    step "Starting PostgreSQL on 127.0.0.1:${PORT[postgres]}"
    postgres_launch
    # After a kill -9 the orphaned backends take a moment to let go of the folder.
    if ! wait_until 10 postgres_settled || is_gone postgres; then
        wait_until 20 postgres_relaunch || postgres_failed
    fi
    wait_until 60 postgres_answers || postgres_failed
}

# Few checkpoints: after each one the first change of every page writes the whole page to the log.
# No statement of ours is worth compiling.
readonly PG_TUNING=(-c shared_buffers=256MB -c max_wal_size=4GB -c checkpoint_timeout=15min -c jit=off)

# Log lines carry neither statements nor the values in a DETAIL: those hold customers' data.
postgres_launch() {
    (
        cd "$PG_DATA/" || exit
        start_process postgres postgres "${PG_AS[@]}" "$PG_BIN/postgres" -D "$(readlink -f "$PG_DATA")" -p "${PORT[postgres]}" \
            -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
            -c fsync=on -c max_connections=200 -c timezone=UTC -c log_timezone=UTC \
            "${PG_TUNING[@]}" \
            -c logging_collector=off -c log_destination=stderr "-clog_line_prefix=%m [%p] " \
            -c log_error_verbosity=terse -c log_min_error_statement=panic
    )
}

postgres_settled() { is_gone postgres || postgres_answers; }

postgres_relaunch() {
    is_running postgres || postgres_launch
    wait_until 5 postgres_settled && is_running postgres
}

postgres_answers() {
    is_running postgres && [[ $(postgres_admin_psql postgres -c 'select 1' 2>/dev/null) == 1 ]]
}

postgres_failed() {
    log_tail "$STATE/log/postgres.log"
    die "PostgreSQL did not start" "the lines above say why; the whole log is $(shown_path "$STATE/log/postgres.log")"
}

# A postmaster that works in our folder is ours, even when run/ was deleted under it.
postgres_adopt() {
    local pid
    pid=$(postmaster_in_folder) || return 1
    record_process postgres "$pid" postgres
}

postmaster_in_folder() {
    local pid
    [[ -s $PG_DATA/postmaster.pid ]] || return 1
    pid=$(head -n 1 "$PG_DATA/postmaster.pid")
    [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$(readlink -f "$PG_DATA")" ]] || return 1
    printf '%s' "$pid"
}

# PostgreSQL takes any living process of its user with the noted pid for its rival. This one is
# known not to work in the folder, so the note is stale.
postgres_drop_stale_lock() { rm -f "$PG_DATA/postmaster.pid"; }

# SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
postgres_stop() {
    PG_DATA=$STATE/postgres
    is_running postgres || postgres_adopt || true
    stop_process postgres 30 INT QUIT
}

# postgres_admin_psql DATABASE ARGS...: as the superuser, who exists for this script alone.
postgres_admin_psql() {
    local database=$1
    shift
    PGPASSWORD=$POSTGRES_PASSWORD "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "${PORT[postgres]}" -U postgres -d "$database" "$@"
}

# postgres_url USER PASSWORD DATABASE
postgres_url() { printf 'postgres://%s:%s@127.0.0.1:%s/%s' "$1" "$2" "${PORT[postgres]}" "$3"; }
