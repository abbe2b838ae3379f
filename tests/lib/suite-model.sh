# shellcheck shell=bash
# the protocol's model, explored as far as ten minutes go; needs no servers

# Its tests print what they explored, and the shortest way to harm without each invariant.
suite_model() {
    step "Checking this machine"
    ensure_rust
    export SQLX_OFFLINE=true
    timed 'build of the model' cargo test --locked --package posto-model --no-run
    POSTO_MODEL=full timed 'model' cargo test --locked --package posto-model -- --nocapture --test-threads 2 "$@"
}
