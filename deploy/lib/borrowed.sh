# shellcheck shell=bash
# Servers that the caller brings: DATABASE_URL and AMQP_URL in the environment stand in for the
# private instances. They are remembered, so that the next run finds the same data.

# take_borrowed: sets BORROWED_DATABASE_URL, BORROWED_AMQP_URL, BORROWED_MANAGEMENT_URL; empty = private.
# A shell that sourced .local/env has our own addresses in these variables: those are not the caller's.
take_borrowed() {
    local file=$STATE/borrowed
    BORROWED_DATABASE_URL='' BORROWED_AMQP_URL='' BORROWED_MANAGEMENT_URL=''
    if [[ -s $file ]]; then
        # shellcheck source=/dev/null
        source "$file"
    fi
    is_private_url "${DATABASE_URL:-}" || BORROWED_DATABASE_URL=$DATABASE_URL
    if ! is_private_url "${AMQP_URL:-}"; then
        BORROWED_AMQP_URL=$AMQP_URL
        BORROWED_MANAGEMENT_URL=${RABBITMQ_MANAGEMENT_URL:-}
        if is_private_url "$BORROWED_MANAGEMENT_URL"; then BORROWED_MANAGEMENT_URL=''; fi
    fi
}

keep_borrowed() {
    local file=$STATE/borrowed
    if [[ -z $BORROWED_DATABASE_URL$BORROWED_AMQP_URL ]]; then
        rm -f "$file"
        return 0
    fi
    (
        umask 077
        printf '%s=%s\n' BORROWED_DATABASE_URL "${BORROWED_DATABASE_URL@Q}" \
            BORROWED_AMQP_URL "${BORROWED_AMQP_URL@Q}" \
            BORROWED_MANAGEMENT_URL "${BORROWED_MANAGEMENT_URL@Q}" >"$file"
    )
    [[ -z $BORROWED_DATABASE_URL ]] || note "using the database of DATABASE_URL instead of a private one (remembered until ./deploy/down --wipe)"
    [[ -z $BORROWED_AMQP_URL ]] || note "using the broker of AMQP_URL instead of a private one (remembered until ./deploy/down --wipe)"
}

# is_private_url URL: is it empty, or does it lead to an instance of this checkout?
is_private_url() {
    [[ -n $1 ]] || return 0
    local file
    for file in "$REPO/.local/env" "$REPO/.local/tests/env"; do
        if [[ -s $file ]] && grep -qF -- "'$1'" "$file"; then return 0; fi
    done
    for file in "$REPO/.local/ports" "$REPO/.local/tests/ports"; do
        if [[ -s $file && $1 =~ @127\.0\.0\.1:([0-9]+) ]] && grep -q "=${BASH_REMATCH[1]}\$" "$file"; then return 0; fi
    done
    return 1
}
