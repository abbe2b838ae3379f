-- What each event costs in index entries, and how events lie on disk.

-- Both rows are written by one statement or one transaction of ours, and nothing else writes them; the
-- ledger finds what would contradict (`claim_without_attempt`, a plan without its deliveries). Checked
-- row by row, a reference costs a look-up and a lock of the row referred to.
alter table deliveries drop constraint deliveries_routing_id_fkey;
alter table delivery_attempts drop constraint delivery_attempts_delivery_id_fkey;

-- A delivery is written three times on its way, and each time into every index. Whoever has an event or
-- a trace comes here by its routing. Nobody asks by tenant alone.
drop index deliveries_event_id;
drop index deliveries_trace_id;
drop index deliveries_tenant;

-- What a payment may still stop (design §5): nobody looks for the invoice of what was settled.
drop index deliveries_invoice_key;
create index deliveries_invoice_key on deliveries (invoice_key)
    where invoice_key is not null and state in ('queued', 'held');

-- The correlation of an event that names none is its trace, which has an index.
drop index communication_events_correlation_id;
create index communication_events_correlation_id on communication_events (correlation_id)
    where correlation_id <> trace_id;

create or replace view communication_events_status as
select e.id, e.source_system, e.event_type, coalesce(e.tenant_id, r.tenant_id) as tenant_id, e.source_event_id, e.idempotency_key, e.trace_id,
       e.correlation_id, e.causation_id, e.occurred_at, e.received_at, e.metadata, e.payload,
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

-- As before.
create or replace view communication_timeline as
select e.trace_id, e.received_at as at, 10 as place, 'received' as step, e.event_type as detail,
       e.id as event_id, null::uuid as delivery_id, e.tenant_id
from communication_events e
union all
select l.trace_id, l.at, 15, 'logged', concat_ws(' ', l.code, l.pointer), l.event_id, l.delivery_id, l.tenant_id
from communication_logs l where l.trace_id is not null
union all
select r.trace_id, r.created_at, 20, r.state, r.failure_code, r.event_id, null, r.tenant_id
from routings r
union all
select r.trace_id, d.created_at, 30, 'queued', concat_ws(' ', d.channel, d.template_key), d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.state <> 'dead' or d.attempt_count > 0
union all
select r.trace_id, d.updated_at, 35, 'held', d.held_reason, d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.state = 'held'
union all
select r.trace_id, a.claimed_at, 40, 'claimed', 'attempt ' || a.number, d.event_id, d.id, d.tenant_id
from delivery_attempts a join deliveries d on d.id = a.delivery_id join routings r on r.id = d.routing_id
union all
select r.trace_id, a.finished_at, 50, 'attempt_' || a.outcome, a.failure_code, d.event_id, d.id, d.tenant_id
from delivery_attempts a join deliveries d on d.id = a.delivery_id join routings r on r.id = d.routing_id
where a.finished_at is not null and a.outcome <> 'sent'
union all
select r.trace_id, d.sent_at, 60, 'sent', d.channel_id, d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.sent_at is not null
union all
select r.trace_id, x.applied_at, 65, 'receipt', concat_ws(' ', x.kind, x.level), d.event_id, d.id, d.tenant_id
from receipts x join deliveries d on d.id = x.delivery_id join routings r on r.id = d.routing_id where x.applied_at is not null
union all
select x.trace_id, coalesce(x.applied_at, x.created_at), 65, 'receipt',
       concat_ws(' ', x.kind, x.level, x.state), x.event_id, x.delivery_id, null
from receipts x
where not exists (select 1 from deliveries d where d.id = x.delivery_id and d.trace_id = x.trace_id)
union all
select r.trace_id, d.delivered_at, 70, 'delivered', null, d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.delivered_at is not null
union all
select r.trace_id, d.read_at, 80, 'read', null, d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.read_at is not null
union all
select r.trace_id, coalesce(d.settled_at, d.updated_at), 90, d.state, d.failure_code, d.event_id, d.id, d.tenant_id
from deliveries d join routings r on r.id = d.routing_id where d.state in ('failed', 'dead', 'unknown', 'suppressed', 'cancelled', 'simulated')
union all
select m.trace_id, m.created_at, 95, 'chat_message', m.role, m.event_id, m.delivery_id, t.customer_id
from chat_messages m join chat_threads t on t.id = m.thread_id
union all
select t.trace_id, t.created_at, 97, 'dead_letter', t.failure_code,
       case when t.subject_kind = 'event' then t.subject_id end,
       case when t.subject_kind = 'delivery' then t.subject_id end, t.tenant_id
from dead_letters t where t.trace_id is not null
union all
select t.trace_id, t.settled_at, 98, 'dead_letter_superseded', t.failure_code,
       case when t.subject_kind = 'event' then t.subject_id end,
       case when t.subject_kind = 'delivery' then t.subject_id end, t.tenant_id
from dead_letters t where t.trace_id is not null and t.state = 'superseded'
union all
select a.trace_id, a.at, 99, a.action, concat_ws(' ', 'by', a.actor, a.detail ->> 'outcome'),
       case when a.subject_kind = 'event' then a.subject_id end,
       case when a.subject_kind = 'delivery' then a.subject_id end, null
from audit_log a where a.trace_id is not null;

-- An event of two kilobytes is stored as it is: compressing it costs more than it saves. A parent has no
-- rows, so that this is a setting of each partition.
create or replace function hub_make_event_partitions(weeks_ahead integer) returns integer language plpgsql as $$
declare
    week  timestamptz;
    child text;
    made  integer := 0;
begin
    for offset_weeks in -1 .. weeks_ahead loop
        week := date_trunc('week', now() at time zone 'utc') at time zone 'utc'
                + make_interval(weeks => offset_weeks);
        child := 'communication_events_' || to_char(week at time zone 'utc', 'IYYY"w"IW');
        if to_regclass(child) is null then
            -- Attached, not created in place: that would lock the parent against every insert.
            execute format('create table %I (like communication_events including all)', child);
            execute format('alter table %I set (toast_tuple_target = 8160)', child);
            execute format(
                'alter table communication_events attach partition %I for values from (%L) to (%L)',
                child, hub_uuid_floor(week), hub_uuid_floor(week + interval '1 week'));
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
do $$
declare
    child regclass;
begin
    for child in select inhrelid::regclass from pg_inherits where inhparent = 'communication_events'::regclass loop
        execute format('alter table %s set (toast_tuple_target = 8160)', child);
    end loop;
end
$$;
