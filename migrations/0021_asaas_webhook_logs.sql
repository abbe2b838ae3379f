-- What Asaas posted, under the name and with the columns that the team knows; now with the trace,
-- what became of it, and how often it was tried.

create index communication_events_asaas on communication_events (received_at) where source_system = 'asaas';

create view asaas_webhook_logs as
select e.id,
       left(coalesce(e.metadata ->> 'raw_event_type', e.event_type), 100) as event,
       -- Bytes that are no JSON are shown as far as they can be read.
       coalesce(e.payload::text, encode(e.body, 'escape')) as payload,
       e.received_at as created_at,
       e.occurred_at, e.event_type, e.trace_id, s.tenant_id, e.invoice_key, e.source_event_id,
       s.status, s.processed_at, s.error_message,
       coalesce(r.attempts, 0) as attempts
from communication_events e
join communication_events_status s on s.id = e.id
left join lateral (select sum(generation + 1) as attempts from routings where event_id = e.id) r on true
where e.source_system = 'asaas';
