-- Dead letters are redriven and discarded, unknown outcomes settled by hand, and whoever did so
-- leaves a line.

create table audit_log (
    id           uuid primary key,
    at           timestamptz not null default now(),
    -- Who: a person's name as the caller gave it, `management-ui`, or a process of ours.
    actor        text not null,
    action       text not null,
    subject_kind text not null,
    subject_id   uuid,
    -- The trace of the subject, so that its story shows the line.
    trace_id     text,
    -- Why, in the person's own words, masked.
    reason       text,
    -- Codes, ids and states; never personal data.
    detail       jsonb not null default '{}'
);
create index audit_log_at on audit_log (at);
create index audit_log_subject_id on audit_log (subject_id) where subject_id is not null;
create index audit_log_trace_id on audit_log (trace_id) where trace_id is not null;

-- Set while the router is asked to plan the delivery again after a redrive. Until it has,
-- `dispatched_at` and `next_attempt_at` are null: no message for an attempt exists, and none is made.
alter table deliveries add column replan_since timestamptz;
create index deliveries_replan on deliveries (replan_since) where replan_since is not null;
-- Operators look for these, page by page.
create index deliveries_for_operators on deliveries (state, id) where state in ('unknown', 'dead', 'failed');

-- Counts redrives, so that exactly one decision stands; `replan_since` as above.
alter table routings add column generation integer not null default 0, add column replan_since timestamptz;
create index routings_replan on routings (replan_since) where replan_since is not null;

alter table receipts add column generation integer not null default 0;

alter table dead_letters
    -- The run of the decision, for letters of events.
    add column run integer not null default 0,
    -- When the copy of a letter that was settled was dropped from its dead queue, or was looked for
    -- often enough, and how often a whole look did not find it.
    add column tidied_at timestamptz, add column tidy_looks integer not null default 0;
create index dead_letters_by_id on dead_letters (id) where state = 'dead';
create index dead_letters_untidied on dead_letters (queue, settled_at) where state <> 'dead' and tidied_at is null;

-- Who looks through a dead queue now, and how long it is left alone afterwards.
create table dead_queue_looks (
    queue        text primary key,
    leased_until timestamptz not null,
    -- Looks in a row that found nothing to drop although something was to be dropped.
    idle_looks   integer not null default 0
);

-- As before, but an event that is to be decided again is waiting, not failed.
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
    select count(*) filter (where state in ('queued', 'held', 'claimed', 'unknown')) as open,
           count(*) filter (where state in ('failed', 'dead')) as failed,
           max(settled_at) as settled_at,
           max(retry_count) as retry_count,
           max(max_retries) as max_retries,
           min(next_attempt_at) as next_retry_at,
           min(failure_code) filter (where state in ('failed', 'dead', 'unknown')) as error_message
    from deliveries where event_id = e.id
) d on true;

-- As before, with what became of letters and what people did.
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
select d.trace_id, d.created_at, 30, 'queued', concat_ws(' ', d.channel, d.template_key), d.event_id, d.id, d.tenant_id
from deliveries d where d.state <> 'dead' or d.attempt_count > 0
union all
select d.trace_id, d.updated_at, 35, 'held', d.held_reason, d.event_id, d.id, d.tenant_id
from deliveries d where d.state = 'held'
union all
select d.trace_id, a.claimed_at, 40, 'claimed', 'attempt ' || a.number, d.event_id, d.id, d.tenant_id
from delivery_attempts a join deliveries d on d.id = a.delivery_id
union all
select d.trace_id, a.finished_at, 50, 'attempt_' || a.outcome, a.failure_code, d.event_id, d.id, d.tenant_id
from delivery_attempts a join deliveries d on d.id = a.delivery_id
where a.finished_at is not null and a.outcome <> 'sent'
union all
select d.trace_id, d.sent_at, 60, 'sent', d.channel_id, d.event_id, d.id, d.tenant_id
from deliveries d where d.sent_at is not null
union all
select d.trace_id, x.applied_at, 65, 'receipt', concat_ws(' ', x.kind, x.level), d.event_id, d.id, d.tenant_id
from receipts x join deliveries d on d.id = x.delivery_id where x.applied_at is not null
union all
select x.trace_id, coalesce(x.applied_at, x.created_at), 65, 'receipt',
       concat_ws(' ', x.kind, x.level, x.state), x.event_id, x.delivery_id, null
from receipts x
where not exists (select 1 from deliveries d where d.id = x.delivery_id and d.trace_id = x.trace_id)
union all
select d.trace_id, d.delivered_at, 70, 'delivered', null, d.event_id, d.id, d.tenant_id
from deliveries d where d.delivered_at is not null
union all
select d.trace_id, d.read_at, 80, 'read', null, d.event_id, d.id, d.tenant_id
from deliveries d where d.read_at is not null
union all
select d.trace_id, coalesce(d.settled_at, d.updated_at), 90, d.state, d.failure_code, d.event_id, d.id, d.tenant_id
from deliveries d where d.state in ('failed', 'dead', 'unknown', 'suppressed', 'cancelled', 'simulated')
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
