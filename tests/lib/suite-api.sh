# shellcheck shell=bash
# the running service held to its own description by schemathesis, its long form

readonly API_DATABASE=posto_api
readonly API_CHECKS=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method

suite_api() {
    prepare_machine
    launch_test_servers
    await_test_servers
    check_api "${API_EXAMPLES:-200}" "$@"
}

# check_api EXAMPLES ARGUMENT...: so many requests at most for each operation and phase.
check_api() {
    local examples=$1 listener
    shift
    ensure_schemathesis
    timed 'build of the services' cargo build "${TEST_BUILD[@]}" --bins
    trap api_over EXIT
    start_described_services
    # The operators' listener comes last: it revokes the keys that open the public one.
    for listener in public admin; do
        timed "API: the $listener listener does what it says" \
            hold_to_description "$listener" "$examples" "$@"
    done
    stop_described_services
}

api_over() {
    stop_described_services
    stop_test_servers
}

hold_to_description() {
    local listener=$1 examples=$2 port=${PORT[api]}
    shift 2
    if [[ $listener == admin ]]; then port=${PORT[admin]}; fi
    # The same seed each time: what fails here fails again for whoever mends it. One worker: Hypothesis
    # keeps what it makes of schemas in memory that two of them spoil for each other.
    (cd "$STATE" && export_api_secrets && "$SCHEMATHESIS" --config-file "$REPO/tests/lib/api/schemathesis.toml" \
        run "http://127.0.0.1:$port/openapi.json" --checks "$API_CHECKS" --max-examples "$examples" \
        --seed 20260205 --workers 1 --warnings off "$@")
}

export_api_secrets() {
    export POSTO_API_KEY=billing-key-for-tests-only-0001 POSTO_WHAPI_KEY=whapi-key-for-tests-only-000001
    export POSTO_PIXELHUB_KEY=pixelhub-key-for-tests-only-0001
    export POSTO_ADMIN_TOKEN=admin-token-for-tests-only ASAAS_WEBHOOK_TOKEN=asaas-webhook-token-for-tests-only
    export PIXELHUB_WHATSAPP_WEBHOOK_SECRET=webhook-secret-for-tests-only
}

# --- what is described ------------------------------------------------------------------------

# All three processes, so that there is something to tell of: decisions, attempts, dead letters.
start_described_services() {
    stop_described_services
    test_psql "$TEST_DATABASE_URL" -c "drop database if exists $API_DATABASE with (force)"
    test_psql "$TEST_DATABASE_URL" -c "create database $API_DATABASE"
    api_command ingest migrate
    api_command ingest admin import "$REPO/deploy/demo/reference.json"
    api_command ingest admin import "$REPO/tests/lib/api/orders.json"
    local POSTO_API_KEY POSTO_WHAPI_KEY POSTO_PIXELHUB_KEY
    export_api_secrets
    api_command ingest admin keys put --source billing --secret-stdin <<<"$POSTO_API_KEY"
    api_command ingest admin keys put --source whapi_cloud --secret-stdin <<<"$POSTO_WHAPI_KEY"
    api_command ingest admin keys put --source pixelhub --secret-stdin <<<"$POSTO_PIXELHUB_KEY"
    local name
    for name in ingest router-worker delivery-worker; do
        (
            export_api_settings "$name"
            start_process "api-$name" "$name" "target/debug/$name" run
        )
    done
    wait_until 60 api_answers || {
        log_tail "$STATE/log/api-ingest.log"
        die 'ingest did not become ready' 'the lines above say why'
    }
    seed_api
}

export_api_settings() {
    export_api_secrets
    DATABASE_URL=$(database_url "$API_DATABASE")
    export DATABASE_URL AMQP_PREFIX=api. DATABASE_MAX_CONNECTIONS=8
    export PUBLIC_LISTEN=127.0.0.1:${PORT[api]} ADMIN_LISTEN=127.0.0.1:${PORT[admin]}
    # Nobody is there: every send is a dead letter at once.
    export WPP_GATEWAY_BASE_URL=http://127.0.0.1:1 WPP_GATEWAY_SECRET=gateway-secret-for-tests-only
    export OUTBOUND_ALLOW=127.0.0.0/8 MAX_EVENT_RETRIES=0 LIMIT_ADDRESS=off SHUT_OUT_AFTER=0
    case $1 in
        router-worker) export OPS_LISTEN=127.0.0.1:${PORT[router_ops]} ;;
        delivery-worker) export OPS_LISTEN=127.0.0.1:${PORT[delivery_ops]} ;;
        *) export OPS_LISTEN=127.0.0.1:${PORT[ingest_ops]} ;;
    esac
}

api_command() {
    (
        export_api_settings "$1"
        local program=$1
        shift
        "target/debug/$program" "$@" >>"$STATE/log/api-commands.log" 2>&1 9>&-
    ) || {
        log_tail "$STATE/log/api-commands.log"
        die "$* failed" 'the lines above say why'
    }
}

api_answers() { curl -sf -o /dev/null "http://127.0.0.1:${PORT[ingest_ops]}/readyz"; }

# What each list is to hold, and each story to tell.
seed_api() {
    local url=http://127.0.0.1:${PORT[api]} samples=$REPO/shared/src/source/fixtures
    export_api_secrets
    post_seed "$url/api/events" "Authorization: Bearer $POSTO_API_KEY" @"$samples/generic/39_api_event_billing_invoice_overdue.json"
    post_seed "$url/api/events" "Authorization: Bearer $POSTO_API_KEY" \
        '{"event_type":"billing.invoice.overdue","source_system":"billing","payload":{"phone":"(47) 99990-0011"}}'
    post_seed "$url/webhook/whapi_cloud" "Authorization: Bearer $POSTO_WHAPI_KEY" @"$samples/whapi/several.json"
    post_seed "$url/webhook/asaas" "asaas-access-token: $ASAAS_WEBHOOK_TOKEN" @"$samples/asaas/payment-received.json"
    post_seed "$url/api/whatsapp/webhook" "X-Gateway-Secret: $PIXELHUB_WHATSAPP_WEBHOOK_SECRET" \
        @"$samples/wpp_gateway/message-ack.json"
    # The first visit makes the chat.
    curl -sSf -o /dev/null -H "Authorization: Bearer $POSTO_PIXELHUB_KEY" "$url/chat/order?order_id=7" ||
        die 'the chat was not opened' "look at $STATE/log/api-ingest.log"
    post_seed "$url/chat/message" "Authorization: Bearer $POSTO_PIXELHUB_KEY" '{"thread_id":1,"message":"Bom dia"}'
    post_seed "$url/tenants/whatsapp-generic-log" "Authorization: Bearer $POSTO_PIXELHUB_KEY" \
        '{"tenant_id":1,"phone_raw":"(47) 99990-0011","message":"Bom dia"}'
    wait_until 30 api_has_letters || die 'no dead letter came of the seed' "look at $STATE/log/api-delivery-worker.log"
}

post_seed() {
    curl -sSf -o /dev/null -H "$2" -H 'Content-Type: application/json' --data-binary "$3" "$1" ||
        die "the seed was refused at $1" "look at $STATE/log/api-ingest.log"
}

api_has_letters() {
    curl -sf -H "Authorization: Bearer $POSTO_ADMIN_TOKEN" "http://127.0.0.1:${PORT[admin]}/admin/dead-letters" |
        jq -e '.dead_letters | length > 0' >/dev/null
}

stop_described_services() {
    local name
    for name in delivery-worker router-worker ingest; do stop_process "api-$name" 20 TERM; done
}
