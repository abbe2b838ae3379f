-- A receipt is written twice, and each time into every index that has its row.

-- Whoever has a trace has its events, and a receipt is found by the event that brought it.
drop index receipts_trace_id;

-- Nobody looks a receipt up by its key id but an attempt that it may wait for.
drop index receipts_provider_message_id;
create index receipts_provider_message_id on receipts (provider_message_id)
    where provider_message_id is not null and state in ('pending', 'unbound');

-- As before, but for the receipts of a trace.
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
select e.trace_id, coalesce(x.applied_at, x.created_at), 65, 'receipt',
       concat_ws(' ', x.kind, x.level, x.state), x.event_id, x.delivery_id, null
from communication_events e join receipts x on x.event_id = e.id
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
