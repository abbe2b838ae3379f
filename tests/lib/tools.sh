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

# ensure_prometheus: prometheus and promtool, which the rules and the metrics are held to. Debian's
# package is taken apart rather than installed: no service starts, no user is made, no root is needed.
ensure_prometheus() {
    if have prometheus && have promtool; then return 0; fi
    step "Fetching Debian's prometheus into .local/tools/ (once)"
    local log=$STATE/log/prometheus.log
    mkdir -p "$TOOLS/bin" "$TOOLS/prometheus"
    if ! fetch_prometheus >"$log" 2>&1 9>&-; then
        log_tail "$log"
        die "prometheus and promtool are missing, and Debian's package could not be fetched" \
            "install it by hand: apt-get install prometheus (its service is not needed)" \
            "or put prometheus and promtool of https://prometheus.io/download into PATH"
    fi
    promtool --version >>"$log" 2>&1 || {
        log_tail "$log"
        die "promtool was fetched and does not run" "install prometheus by hand, then run this again"
    }
}

# In a subshell, for the folder is changed.
fetch_prometheus() (
    have apt-get && have dpkg-deb || return 1
    cd "$TOOLS/prometheus" || return 1
    rm -f ./*.deb
    # Without the lists of packages, root has to fetch them first.
    apt-get download prometheus || { as_root apt-get update -q && apt-get download prometheus; } || return 1
    dpkg-deb -x ./prometheus_*.deb . || return 1
    rm -f ./*.deb
    ln -sf "$TOOLS/prometheus/usr/bin/prometheus" "$TOOLS/prometheus/usr/bin/promtool" "$TOOLS/bin/"
)

# ensure_schemathesis: in a Python environment of its own, every package of the version that is written
# down. SCHEMATHESIS is its program.
ensure_schemathesis() {
    local wanted=$REPO/tests/lib/api/requirements.txt folder=$TOOLS/schemathesis log=$STATE/log/schemathesis.log
    SCHEMATHESIS=$folder/bin/schemathesis
    if [[ -x $SCHEMATHESIS ]] && cmp -s "$wanted" "$folder/requirements.txt"; then return 0; fi
    ensure_packages python3
    step "Fetching schemathesis into .local/tools/ (once)"
    if ! fetch_schemathesis "$wanted" "$folder" >"$log" 2>&1 9>&-; then
        log_tail "$log"
        die "schemathesis could not be installed" \
            "python3 with venv is needed (apt-get install python3-venv), and a way to pypi.org or a mirror (PIP_INDEX_URL)"
    fi
}

fetch_schemathesis() {
    local wanted=$1 folder=$2
    rm -rf "$folder"
    # Debian keeps venv apart from Python.
    python3 -m venv "$folder" || {
        rm -rf "$folder"
        apt_install python3-venv && python3 -m venv "$folder"
    } || return 1
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$wanted" || return 1
    "$folder/bin/pip" check || return 1
    cp "$wanted" "$folder/requirements.txt"
}

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
