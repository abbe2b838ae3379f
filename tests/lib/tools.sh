# shellcheck shell=bash
# shellcheck disable=SC2034 # TIMED_STEP is read by common.sh
# Cargo's helpers: those of the machine are taken as they are, missing ones are built once into .local/tools/.

readonly TOOLS=$REPO/.local/tools

# ensure_tool NAME VERSION
ensure_tool() {
    if have "$1"; then return 0; fi
    step "Building $1 into .local/tools/ (once, some minutes)"
    local log=$STATE/log/tools.log
    mkdir -p "$TOOLS"
    if ! CARGO_TARGET_DIR=$TOOLS/build cargo install --locked --root "$TOOLS" "$1" --version "$2" >"$log" 2>&1 9>&-; then
        log_tail "$log"
        die "$1 could not be built" "install it by hand: cargo install --locked $1"
    fi
}

# The tools share most of their dependencies while they are built; nothing of that is needed later.
forget_tool_builds() { rm -rf "$TOOLS/build"; }

# timed TITLE COMMAND...
timed() {
    local title=$1 started=$SECONDS
    shift
    step "$title"
    TIMED_STEP=$title
    "$@" 9>&-
    TIMED_STEP=
    note "$title: $((SECONDS - started)) s"
}
