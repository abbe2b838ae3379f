# shellcheck shell=bash
# The demo: one real overdue invoice is posted, and its story is told until the customer has read it.

readonly DEMO_SECONDS=60

run_demo() {
    local answer trace
    step "Posting billing.invoice.overdue to $POSTO_API_URL/api/events"
    answer=$(post_demo_event) || die "the event was not accepted" \
        "$(shown_path "$STATE/log/ingest.log") says why"
    trace=$(jq -r '.trace_id // empty' <<<"$answer")
    [[ -n $trace ]] || die "the answer names no trace: $answer" "look at $(shown_path "$STATE/log/ingest.log")"
    note "accepted, trace $trace"
    follow_trace "$trace"
    show_message
}

post_demo_event() {
    local body status file=$STATE/run/demo.json
    body=$(jq -n --arg key "demo-$(date +%s%N)-$RANDOM" '{
        event_type: "billing.invoice.overdue", source_system: "billing", tenant_id: 1, idempotency_key: $key,
        payload: {
            invoice_id: 503, phone: "(47) 99990-0011", customer_name: "Padaria Aurora", description: "Hospedagem",
            amount: "59.80", due_date: "2026-01-27", invoice_url: "https://pay.example/503"
        }
    }')
    status=$(bearer "$POSTO_TOKEN" | curl -sS --max-time 30 -K - -o "$file" -w '%{http_code}' \
        -H 'content-type: application/json' --data-binary "$body" "$POSTO_API_URL/api/events") || return 1
    if [[ $status != 202 ]]; then
        printf 'HTTP %s: %s\n' "$status" "$(cat "$file")" >&2
        return 1
    fi
    cat "$file"
}

# The text as it stands at the gateway, which is what the customer got.
show_message() {
    note 'the customer got:'
    { curl -fsS --max-time 10 "$GATEWAY_SIM_URL/_sim/messages" 2>/dev/null || printf '[]'; } |
        jq -r '.[-1].text // empty' | sed 's/^/      | /'
}

# bearer TOKEN: as curl's configuration on standard input, where no process list shows it.
bearer() { printf 'header = "Authorization: Bearer %s"\n' "$1"; }

# follow_trace TRACE: prints each step as it appears, with the time since the event was received.
follow_trace() {
    local trace=$1 deadline=$((SECONDS + DEMO_SECONDS)) line seen='|' last='' milliseconds name detail
    while ((SECONDS < deadline)); do
        while IFS=$'\t' read -r milliseconds name detail; do
            line="$milliseconds/$name/$detail"
            [[ $seen != *"|$line|"* ]] || continue
            seen+="$line|"
            last=$name
            printf '    %6s ms  %-10s %s\n' "$milliseconds" "$name" "$detail"
        done < <(read_timeline "$trace")
        if [[ $seen == */read/* ]]; then return 0; fi
        sleep 0.1
    done
    die "the message was not read within $DEMO_SECONDS s; the last step was: ${last:-none}" \
        "the whole story: source .local/env; curl -H \"Authorization: Bearer \$POSTO_ADMIN_TOKEN\" \$POSTO_ADMIN_URL/admin/traces/$trace" \
        "the logs: $(shown_path "$STATE/log")/{ingest,router-worker,delivery-worker,gateway-sim}.log"
}

# read_timeline TRACE: lines of "milliseconds since received, step, detail".
read_timeline() {
    local answer
    answer=$(bearer "$POSTO_ADMIN_TOKEN" | curl -fsS --max-time 10 -K - "$POSTO_ADMIN_URL/admin/traces/$1" 2>/dev/null) || return 0
    jq -r '
        def ms: capture("^(?<s>[^.Z+]+)(\\.(?<f>[0-9]+))?")
            | (.s + "Z" | fromdateiso8601) * 1000 + ((((.f // "0") + "000")[0:3]) | tonumber);
        [.timeline[] | . + {ms: (.at | ms)}] | sort_by(.ms) | (.[0].ms // 0) as $start
        | .[] | [(.ms - $start | floor), .step, (.detail // "")] | @tsv' <<<"$answer" 2>/dev/null || true
}
