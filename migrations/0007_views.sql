-- One fact has one home; these show it under the names that the team knows.

create view communication_events_status as
select e.id, e.source_system, e.event_type, coalesce(e.tenant_id, r.tenant_id) as tenant_id, e.source_event_id, e.idempotency_key, e.trace_id,
       e.correlation_id, e.causation_id, e.occurred_at, e.received_at, e.metadata, e.payload,
       e.provider_message_id, e.channel_id, e.direction, e.contact_key, e.invoice_key,
       case
           when r.id is null then 'queued'
           when r.state = 'failed' then 'failed'
           when d.open > 0 then 'processing'
           when d.failed > 0 then 'failed'
           else 'processed'
       end as status,
       case when r.id is not null and coalesce(d.open, 0) = 0
            then greatest(r.created_at, d.settled_at) end as processed_at,
       r.processing_time_ms,
       coalesce(r.error_message, d.error_message) as error_message,
       coalesce(d.retry_count, 0) as retry_count,
       d.max_retries,
       d.next_retry_at
from communication_events e
left join lateral (
    select r.id, r.tenant_id, r.state, r.created_at, r.processing_time_ms, r.error_message
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

create view billing_notifications as
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
       d.body_text as message, d.recipient as phone_raw, d.recipient as phone_normalized,
       d.created_at, d.updated_at, d.sent_at, d.failure_code as last_error,
       d.trace_id, d.correlation_id, d.event_id, d.source_system,
       d.state as delivery_status, d.delivered_at as delivery_confirmed_at
from deliveries d
left join lateral (
    select provider_message_id from delivery_attempts
    where delivery_id = d.id and provider_message_id is not null order by claimed_at desc limit 1
) a on true
where d.event_type like 'billing.%' and d.channel in ('whatsapp', 'email');

create view whatsapp_generic_logs as
select d.id, d.tenant_id, d.template_id, d.recipient as phone, d.body_text as message, d.sent_at, d.created_at,
       d.state as status, d.trace_id, d.correlation_id, d.event_id, d.source_system,
       d.state as delivery_status, d.delivered_at as delivery_confirmed_at
from deliveries d
where d.channel = 'whatsapp' and d.event_type not like 'billing.%';

create view dead_letter_queue as
select id as letter_id, queue, subject_kind, subject_id, generation, failure_code, failure_class, attempts,
       first_failed_at, last_failed_at, trace_id, event_type, tenant_id, channel, template_key, made_by, created_at
from dead_letters where state = 'dead';

-- The whole story of a trace, in the order it happened. A receipt stands in the trace of the
-- delivery that it is evidence of, and in its own.
create view communication_timeline as
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
from dead_letters t where t.trace_id is not null;
