-- Messages that a person sent by hand, shown beside those that Posto sent.

create index communication_events_logged on communication_events (tenant_id, received_at)
    where event_type = 'whatsapp.message.logged';

-- The last messages of a tenant, by the time they left. An entry is made when a message was sent, not while
-- it waits and is claimed.
create index deliveries_of_tenant on deliveries (tenant_id, sent_at)
    where channel = 'whatsapp' and sent_at is not null;

create or replace view whatsapp_generic_logs as
select d.id, d.tenant_id, d.template_id, d.recipient as phone, d.body_text as message, d.sent_at, d.created_at,
       d.state as status, d.trace_id, d.correlation_id, d.event_id, d.source_system,
       d.state as delivery_status, d.delivered_at as delivery_confirmed_at
from deliveries d
where d.channel = 'whatsapp' and d.event_type not like 'billing.%'
union all
-- Any source may post the type, so its payload may say anything.
select e.id, e.tenant_id,
       case when e.payload ->> 'template_id' ~ '^[0-9]{1,18}$' then (e.payload ->> 'template_id')::bigint end,
       e.payload ->> 'phone', e.payload ->> 'message',
       e.received_at, e.received_at, 'sent_manual', e.trace_id, e.correlation_id, e.id, e.source_system,
       null::text, null::timestamptz
from communication_events e
where e.event_type = 'whatsapp.message.logged';
