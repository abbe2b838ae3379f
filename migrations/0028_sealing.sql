-- Encryption at rest: what a sealed value looks like to SQL, the keys that are in use, and how far the
-- walks have come that seal again what another key sealed, or none.

-- The form is that of `shared/src/sealing/envelope.rs`. These answer the id of the key that a value is
-- sealed with, null for one in clear. Not strict, so that PostgreSQL writes them into the query.
create function hub_sealed_with(value text) returns text language sql immutable parallel safe as $$
    select case when value like E'\x02PS1:%' then split_part(value, ':', 2) end
$$;
create function hub_sealed_with(value bytea) returns text language sql immutable parallel safe as $$
    select case when substring(value for 5) = '\x025053313a'::bytea
                then split_part(encode(substring(value from 6 for 40), 'escape'), ':', 1) end
$$;
create function hub_sealed_with(value jsonb) returns text language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'string' then hub_sealed_with(value #>> '{}') end
$$;

-- What a view may show of a value: nothing of a sealed one.
create function hub_in_clear(value text) returns text language sql immutable parallel safe as $$
    select case when value like E'\x02PS0:%' then substr(value, 6)
                when value not like E'\x02PS%' then value end
$$;
create function hub_in_clear(value jsonb) returns jsonb language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'string' then to_jsonb(hub_in_clear(value #>> '{}')) else value end
$$;

-- The keys that what is stored may be sealed with. Each process proves at its start that it has them all.
create table sealing_keys (
    id         text primary key check (id ~ '^[a-z0-9_-]{1,32}$'),
    -- A known value, sealed with the key.
    proof      bytea not null,
    created_at timestamptz not null default now()
);

-- One row per table that holds sealed values; whoever has it locked turns the page.
create table sealing_walks (
    book        text primary key check (book in ('events', 'deliveries', 'receipts', 'chat_messages', 'media')),
    -- The key that this walk seals with; null before the first.
    key_id      text,
    -- How far it has come; the next page begins after it.
    up_to       text not null default '',
    -- How many values it sealed.
    resealed    bigint not null default 0,
    -- When a whole walk found nothing to seal; null until then.
    clean_since timestamptz
);
insert into sealing_walks (book) values ('events'), ('deliveries'), ('receipts'), ('chat_messages');

-- As before, but for sealed values.
create or replace view communication_events_status as
select e.id, e.source_system, e.event_type, coalesce(e.tenant_id, r.tenant_id) as tenant_id, e.source_event_id, e.idempotency_key, e.trace_id,
       e.correlation_id, e.causation_id, e.occurred_at, e.received_at, e.metadata, hub_in_clear(e.payload) as payload,
       e.provider_message_id, e.channel_id, e.direction, e.contact_key, e.invoice_key,
       case
           when r.id is null or r.replan_since is not null then 'queued'
           when r.state = 'failed' then 'failed'
           when d.open > 0 then 'processing'
           when d.failed > 0 then 'failed'
           else 'processed'
       end as status,
       case when r.id is not null and r.replan_since is null and coalesce(d.open, 0) = 0
            then greatest(r.created_at, d.settled_at) end as processed_at,
       r.processing_time_ms,
       coalesce(r.error_message, d.error_message) as error_message,
       coalesce(d.retry_count, 0) as retry_count,
       d.max_retries,
       d.next_retry_at
from communication_events e
left join lateral (
    select r.id, r.tenant_id, r.state, r.created_at, r.processing_time_ms, r.error_message, r.replan_since
    from routings r where r.event_id = e.id order by r.run desc limit 1
) r on true
left join lateral (
    select count(*) filter (where d.state in ('queued', 'held', 'claimed', 'unknown')) as open,
           count(*) filter (where d.state in ('failed', 'dead')) as failed,
           max(d.settled_at) as settled_at,
           max(d.retry_count) as retry_count,
           max(d.max_retries) as max_retries,
           min(d.next_attempt_at) as next_retry_at,
           min(d.failure_code) filter (where d.state in ('failed', 'dead', 'unknown')) as error_message
    from deliveries d join routings of on of.id = d.routing_id where of.event_id = e.id
) d on true;

create or replace view billing_notifications as
select d.id, d.tenant_id, substring(d.invoice_key from '^[^:]*:(.*)$') as invoice_id,
       case d.channel when 'whatsapp' then 'whatsapp_gateway' when 'email' then 'email_smtp' else d.channel end as channel,
       d.template_key as template,
       case
           when d.state in ('queued', 'held', 'claimed') then 'prepared'
           when d.state in ('sent', 'delivered', 'read') then 'sent_auto'
           when d.state = 'unknown' then 'sent_uncertain'
           when d.state in ('failed', 'dead') then 'failed'
           else d.state
       end as status,
       a.provider_message_id as gateway_message_id,
       hub_in_clear(d.body_text) as message, d.recipient as phone_raw, d.recipient as phone_normalized,
       d.created_at, d.updated_at, d.sent_at, d.failure_code as last_error,
       d.trace_id, d.correlation_id, d.event_id, d.source_system,
       d.state as delivery_status, d.delivered_at as delivery_confirmed_at
from deliveries d
left join lateral (
    select provider_message_id from delivery_attempts
    where delivery_id = d.id and provider_message_id is not null order by claimed_at desc limit 1
) a on true
where d.event_type like 'billing.%' and d.channel in ('whatsapp', 'email');

create or replace view whatsapp_generic_logs as
select d.id, d.tenant_id, d.template_id, d.recipient as phone, hub_in_clear(d.body_text) as message, d.sent_at, d.created_at,
       d.state as status, d.trace_id, d.correlation_id, d.event_id, d.source_system,
       d.state as delivery_status, d.delivered_at as delivery_confirmed_at
from deliveries d
where d.channel = 'whatsapp' and d.event_type not like 'billing.%'
union all
-- Any source may post the type, so its payload may say anything.
select e.id, e.tenant_id,
       case when hub_in_clear(e.payload) ->> 'template_id' ~ '^[0-9]{1,18}$'
            then (hub_in_clear(e.payload) ->> 'template_id')::bigint end,
       hub_in_clear(e.payload) ->> 'phone', hub_in_clear(e.payload) ->> 'message',
       e.received_at, e.received_at, 'sent_manual', e.trace_id, e.correlation_id, e.id, e.source_system,
       null::text, null::timestamptz
from communication_events e
where e.event_type = 'whatsapp.message.logged';

create or replace view asaas_webhook_logs as
select e.id,
       left(coalesce(e.metadata ->> 'raw_event_type', e.event_type), 100) as event,
       -- Bytes that are no JSON are shown as far as they can be read.
       case when hub_sealed_with(e.payload) is null and hub_sealed_with(e.body) is null
            then coalesce(hub_in_clear(e.payload)::text, encode(e.body, 'escape')) end as payload,
       e.received_at as created_at,
       e.occurred_at, e.event_type, e.trace_id, s.tenant_id, e.invoice_key, e.source_event_id,
       s.status, s.processed_at, s.error_message,
       coalesce(r.attempts, 0) as attempts
from communication_events e
join communication_events_status s on s.id = e.id
left join lateral (select sum(generation + 1) as attempts from routings where event_id = e.id) r on true
where e.source_system = 'asaas';
