-- The rules and texts that every installation starts with (seed, checkpoint 1.3; facts §4.2, §5.3).

insert into sources (name) values ('wpp_gateway'), ('asaas'), ('billing'), ('pixelhub');

insert into routing_rules (name, event_type, source_system, channel, template, template_expr, priority, metadata) values
    ('whatsapp-inbound-to-chat', 'whatsapp.inbound.message', 'wpp_gateway', 'chat', null, null, 10, '{"auto_reply": false}'),
    ('whatsapp-ack', 'whatsapp.delivery.ack', null, 'none', null, null, 20, '{}'),
    ('whatsapp-echo', 'whatsapp.outbound.message', null, 'none', null, null, 20, '{}'),
    ('whatsapp-connection', 'whatsapp.connection.update', null, 'none', null, null, 20, '{}'),
    ('billing-overdue', 'billing.invoice.overdue', null, 'whatsapp', 'overdue_7d', 'payload.stage', 30, '{}'),
    ('billing-pre-due', 'billing.invoice.pre_due', null, 'whatsapp', 'pre_due', 'payload.stage', 30, '{}'),
    ('chat-message', 'chat.message.received', null, 'chat', null, null, 30, '{}'),
    ('asaas-payments', 'asaas.payment.*', 'asaas', 'none', null, null, 50, '{}');

insert into message_templates (key, channel, version, body, variables) values
('pre_due', 'whatsapp', 1,
'Oi, {{ customer_name }}! Tudo bem?

Passando para lembrar da sua próxima fatura:

*{{ description }}*
Vencimento: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Se já pagou, é só desconsiderar. Obrigado!',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]'),
('due_day', 'whatsapp', 1,
'Oi, {{ customer_name }}! Sua fatura vence hoje:

*{{ description }}*
Vencimento: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Se já pagou, desconsidere esta mensagem. Obrigado!',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]'),
('overdue_1d', 'whatsapp', 1,
'Oi, {{ customer_name }}! Vimos que esta fatura ainda está em aberto:

*{{ description }}*
Venceu em: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Se já pagou, desconsidere. Qualquer dúvida, estamos por aqui!',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]'),
('overdue_3d', 'whatsapp', 1,
'Oi, {{ customer_name }}! A fatura abaixo continua em aberto. Para manter seus serviços ativos, contamos com a sua regularização:

*{{ description }}*
Venceu em: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Se já pagou, desconsidere esta mensagem.',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]'),
('overdue_7d', 'whatsapp', 1,
'Olá, {{ customer_name }}. Ainda não identificamos o pagamento desta fatura:

*{{ description }}*
Venceu em: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Se houver alguma dificuldade, responda esta mensagem: vamos encontrar uma solução juntos. Se já pagou, desconsidere.',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]'),
('overdue_15d', 'whatsapp', 1,
'Olá, {{ customer_name }}. A fatura abaixo precisa ser regularizada:

*{{ description }}*
Venceu em: {{ due_date | data }}
Valor: {{ amount | brl }}
{% if invoice_url %}

Para pagar: {{ invoice_url }}
{% endif %}

Podemos conversar sobre prazos e formas de pagamento: responda esta mensagem. Se já pagou, desconsidere.',
'[{"name":"customer_name","required":true,"sample":"Padaria Aurora"},{"name":"description","required":true,"sample":"Hospedagem"},{"name":"due_date","required":true,"sample":"2026-01-27"},{"name":"amount","required":true,"sample":"59.80"},{"name":"invoice_url","required":false,"sample":"https://pay.example/503"}]');
