# shellcheck shell=bash
# The data of the checked queries, .sqlx/: what sqlx's macros learned from the database, committed so
# that a build needs none. The macros write it themselves when they see a database (SQLX_OFFLINE=false)
# and SQLX_OFFLINE_DIR, so clippy's pass over the workspace makes a fresh copy as it goes.

readonly QUERIES_DATABASE=posto_queries

# query_files: the Rust files that hold a checked query.
query_files() {
    grep -rlE --include='*.rs' '\bquery(_as|_scalar|_file|_file_as|_file_scalar)?!\s*\(' \
        shared ingest router-worker delivery-worker tests || true
}

# queries_fingerprint: of all that decides what the data should be, and of the data itself.
queries_fingerprint() {
    local sum
    sum=$({ query_files | sort | xargs -r sha256sum && cat Cargo.lock migrations/*.sql .sqlx/* 2>/dev/null; } | sha256sum)
    printf '%s' "${sum%% *}"
}

# queries_changed: since the last check that found everything in order.
queries_changed() { [[ ! -s $STATE/queries || $(queries_fingerprint) != "$(<"$STATE/queries")" ]]; }

# clippy_learning_queries DIR: clippy over all targets, while the macros write what they learn to DIR.
# A macro runs only when its crate is compiled, hence the touch; the times are put back, so that
# later builds of the same sources find nothing to do.
clippy_learning_queries() {
    local dir=$1 file files times=() code=0 i
    rm -rf "$dir"
    mkdir -p "$dir"
    make_queries_database
    mapfile -t files < <(query_files)
    for file in "${files[@]}"; do times+=("$(stat -c %y "$file")"); done
    if ((${#files[@]})); then touch "${files[@]}"; fi
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$dir DATABASE_URL=$QUERIES_URL run_clippy || code=$?
    for i in "${!files[@]}"; do touch -d "${times[i]}" "${files[i]}"; done
    drop_queries_database
    return "$code"
}

run_clippy() { cargo clippy "${TEST_BUILD[@]}" --all-targets -- -D warnings; }

check_queries() {
    local fresh=$STATE/queries.new
    mkdir -p "$fresh"
    if ! diff -rq "$fresh" .sqlx; then
        die "the committed query data (.sqlx/) does not follow from the code and the migrations" \
            "./tests/prepare-queries makes it anew; commit what it changes"
    fi
    rm -rf "$fresh"
    queries_fingerprint >"$STATE/queries"
}

# --- a database with every migration ----------------------------------------------------------

make_queries_database() {
    local file mode
    drop_queries_database
    test_psql "$TEST_DATABASE_URL" -c "create database $QUERIES_DATABASE"
    QUERIES_URL=$(queries_url)
    for file in migrations/*.sql; do
        mode=--single-transaction
        # sqlx's own mark for a migration that must not run inside a transaction.
        if head -n 1 "$file" | grep -q '^-- no-transaction'; then mode=--quiet; fi
        test_psql "$QUERIES_URL" "$mode" -f "$file" >/dev/null ||
            die "migration $(shown_path "$file") fails in an empty database" "the line above says where"
    done
}

drop_queries_database() { test_psql "$TEST_DATABASE_URL" -c "drop database if exists $QUERIES_DATABASE with (force)"; }

# The same server, another database: the last part of the path is replaced, options are kept.
queries_url() { database_url "$QUERIES_DATABASE"; }
database_url() { sed -E "s#(://[^/]+)(/[^?]*)?(\\?.*)?\$#\\1/$1\\3#" <<<"$TEST_DATABASE_URL"; }

test_psql() {
    local url=$1 program
    shift
    program=$(newest_postgres_bin)
    program=${program:+$program/psql}
    PGOPTIONS='-c client_min_messages=warning' "${program:-psql}" -X -q -v ON_ERROR_STOP=1 "$@" "$url"
}
