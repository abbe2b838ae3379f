//! The decision as tables: what each kind of event leads to, and why.

use std::sync::Arc;

use chrono::{TimeZone, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::domain::channel::Channel;
use shared::domain::delivery::DeliveryState;
use shared::domain::directory::{ChannelAccount, Directory, Tenant};
use shared::domain::expression::Expression;
use shared::domain::failure::{FailureClass, FailureCode};
use shared::domain::ids::TenantId;
use shared::domain::rule::{Rule, Verdict};
use shared::domain::template::{Template, TemplateBook, Variable};
use shared::source::{self, StoredEvent};

use crate::plan::{Plan, plan};
use crate::recipient;

fn rule(id: i64, event_type: &str, channel: Option<Channel>, template: Option<&str>) -> Rule {
    Rule {
        id,
        name: format!("rule-{id}"),
        event_type: event_type.to_owned(),
        source_system: None,
        tenant_id: None,
        condition: None,
        channel,
        template: template.map(str::to_owned),
        template_expr: None,
        priority: 100,
        needs_ai: false,
        needs_human: false,
    }
}

fn template(key: &str) -> Template {
    let variable = |name: &str| Variable {
        name: name.to_owned(),
        required: true,
        sample: Value::Null,
    };
    Template {
        id: 1,
        key: key.to_owned(),
        channel: Channel::Whatsapp,
        locale: "pt-BR".to_owned(),
        version: 1,
        body: "{{ customer_name }}: {{ description }}".to_owned(),
        variables: vec![variable("customer_name"), variable("description")],
        lane: "notice".to_owned(),
        unknown_policy: "park".to_owned(),
    }
}

fn tenant(id: i64, phone: &str, match_key: &str) -> (TenantId, Arc<Tenant>) {
    let tenant = Tenant {
        id: TenantId(id),
        name: format!("Tenant {id}"),
        trade_name: None,
        phone: Some(phone.to_owned()),
        phone_match_key: Some(match_key.to_owned()),
        archived: false,
    };
    (TenantId(id), Arc::new(tenant))
}

/// T1 with an account, T2 without one, T4 and T5 with one phone.
fn directory(rules: Vec<Rule>) -> Directory {
    let account = ChannelAccount {
        id: "pixel12digital".to_owned(),
        provider_account: "Pixel12 Digital".to_owned(),
        display_name: "Pixel12 Digital".to_owned(),
        own_phone: None,
        enabled: true,
    };
    Directory {
        tenants: [
            tenant(1, "(47) 99990-0011", "554799900011"),
            tenant(2, "11 98880-0022", "551188800022"),
            tenant(4, "(53) 98160-0044", "555381600044"),
            tenant(5, "(53) 98160-0044", "555381600044"),
        ]
        .into(),
        accounts: [(account.id.clone(), Arc::new(account))].into(),
        tenant_accounts: [(TenantId(1), vec!["pixel12digital".to_owned()])].into(),
        rules: rules.into_iter().map(Arc::new).collect(),
        templates: Arc::new(TemplateBook::compile(vec![
            template("overdue_7d"),
            template("overdue_3d"),
        ])),
        hash_key: b"key".to_vec(),
        ..Directory::default()
    }
    .indexed()
}

fn decide(
    event_type: &str,
    source_system: &str,
    tenant: Option<i64>,
    payload: &Value,
    directory: &Directory,
) -> Plan {
    let named = Named {
        tenant,
        invoice_owner: None,
    };
    decide_for(event_type, source_system, named, payload, directory)
}

/// Who is named beside the payload.
#[derive(Clone, Copy, Default)]
struct Named {
    tenant: Option<i64>,
    invoice_owner: Option<i64>,
}

fn decide_for(
    event_type: &str,
    source_system: &str,
    named: Named,
    payload: &Value,
    directory: &Directory,
) -> Plan {
    let at = Utc.timestamp_opt(1_770_300_000, 0).single().unwrap();
    let stored = StoredEvent {
        source_system,
        event_type,
        tenant_id: named.tenant.map(TenantId),
        payload: Some(payload),
        body: b"",
        occurred_at: Some(at),
        received_at: at,
    };
    let event = source::of(source_system).normalise(&stored).unwrap();
    let finding = recipient::tenant(&event, named.invoice_owner.map(TenantId), directory);
    plan(&event, payload, finding, directory)
}

fn overdue(payload: &Value, tenant: i64, rules: Vec<Rule>) -> Plan {
    decide(
        "billing.invoice.overdue",
        "billing",
        Some(tenant),
        payload,
        &directory(rules),
    )
}

fn whatsapp_rule() -> Rule {
    rule(
        1,
        "billing.invoice.overdue",
        Some(Channel::Whatsapp),
        Some("overdue_7d"),
    )
}

fn verdicts(plan: &Plan) -> Vec<(i64, Verdict)> {
    plan.tried
        .iter()
        .map(|tried| (tried.rule.id, tried.verdict.clone()))
        .collect()
}

#[test]
fn what_is_simulated_ends_there_whatever_would_have_become_of_it() {
    for (payload, failure) in [
        (
            json!({"phone": "(47) 99990-0011", "description": "Hospedagem"}),
            None,
        ),
        (
            json!({"phone": "12", "description": "Hospedagem"}),
            Some(FailureCode::RecipientInvalid),
        ),
    ] {
        let mut plan = overdue(&payload, 1, vec![whatsapp_rule()]);
        assert_ne!(plan.deliveries[0].state(), DeliveryState::Simulated);
        plan.simulate();
        let [planned] = &plan.deliveries[..] else {
            panic!("one delivery, not {}", plan.deliveries.len())
        };
        assert_eq!(planned.state(), DeliveryState::Simulated);
        assert_eq!(planned.text.as_deref(), Some("Tenant 1: Hospedagem"));
        assert_eq!(planned.failure.as_ref().map(|failure| failure.0), failure);
        assert_eq!(plan.state(), "routed");
        assert!(plan.decision().get().contains("in shadow"));
    }
}

#[test]
fn an_overdue_invoice_is_one_message_through_the_tenants_own_account() {
    let plan = overdue(
        &json!({"phone": "(47) 99990-0011", "description": "Hospedagem"}),
        1,
        vec![whatsapp_rule()],
    );
    let [planned] = &plan.deliveries[..] else {
        panic!("one delivery, not {}", plan.deliveries.len())
    };
    assert_eq!(planned.state(), DeliveryState::Queued);
    assert_eq!(planned.channel_id.as_deref(), Some("pixel12digital"));
    assert_eq!(planned.recipient.as_deref(), Some("5547999900011"));
    assert_eq!(planned.recipient_key.as_deref(), Some("tel:554799900011"));
    assert_eq!(
        planned.text.as_deref(),
        Some("Tenant 1: Hospedagem"),
        "the tenant's name fills the gap"
    );
    assert_eq!(plan.state(), "routed");
}

#[test]
fn what_cannot_be_sent_says_why_and_waits_for_a_person_who_can_mend_it() {
    let good = json!({"phone": "(47) 99990-0011", "description": "Hospedagem"});
    let with = |name: &str, value: Value| {
        let mut payload = good.clone();
        payload[name] = value;
        payload
    };
    let no_description = json!({"phone": "(47) 99990-0011"});
    let unknown_template = rule(
        1,
        "billing.invoice.overdue",
        Some(Channel::Whatsapp),
        Some("nothing"),
    );
    let cases = [
        (
            no_description,
            1,
            whatsapp_rule(),
            FailureCode::TemplateVariableMissing,
        ),
        (
            with("phone", json!("123")),
            1,
            whatsapp_rule(),
            FailureCode::RecipientInvalid,
        ),
        (
            good.clone(),
            2,
            whatsapp_rule(),
            FailureCode::ChannelNotConfigured,
        ),
        (
            with("channel", json!("another")),
            1,
            whatsapp_rule(),
            FailureCode::ChannelNotConfigured,
        ),
        (
            good.clone(),
            1,
            unknown_template,
            FailureCode::TemplateNotFound,
        ),
        (
            good.clone(),
            1,
            rule(1, "billing.*", Some(Channel::Email), Some("x")),
            FailureCode::ChannelUnavailable,
        ),
        (
            good.clone(),
            1,
            rule(1, "billing.*", Some(Channel::Chat), None),
            FailureCode::RecipientMissing,
        ),
    ];
    for (payload, tenant, rule, expected) in cases {
        let plan = overdue(&payload, tenant, vec![rule]);
        let planned = &plan.deliveries[0];
        assert_eq!(
            planned.failure.as_ref().map(|failure| failure.0),
            Some(expected)
        );
        let nobody = expected.class() == FailureClass::Recipient;
        assert_eq!(
            planned.state(),
            if nobody {
                DeliveryState::Failed
            } else {
                DeliveryState::Dead
            }
        );
    }
}

#[test]
fn the_lowest_number_wins_its_channel_then_the_more_specific_then_the_older() {
    let base = whatsapp_rule;
    let cases = [
        (
            Rule { id: 1, ..base() },
            Rule {
                id: 2,
                priority: 5,
                ..base()
            },
            2,
        ),
        (
            Rule {
                id: 1,
                event_type: "billing.*".to_owned(),
                ..base()
            },
            Rule { id: 2, ..base() },
            2,
        ),
        (
            Rule { id: 1, ..base() },
            Rule {
                id: 2,
                tenant_id: Some(TenantId(1)),
                ..base()
            },
            2,
        ),
        (
            Rule { id: 1, ..base() },
            Rule {
                id: 2,
                source_system: Some("billing".to_owned()),
                ..base()
            },
            2,
        ),
        (Rule { id: 1, ..base() }, Rule { id: 2, ..base() }, 1),
        (
            Rule { id: 1, ..base() },
            Rule {
                id: 2,
                condition: Some(Expression::compile("payload.amount > 1")),
                ..base()
            },
            1,
        ),
    ];
    for (first, second, winner) in cases {
        let label = format!("{first:?} against {second:?}");
        let plan = overdue(
            &json!({"phone": "47999900011", "description": "x"}),
            1,
            vec![first, second],
        );
        assert_eq!(plan.deliveries.len(), 1, "{label}");
        assert_eq!(plan.deliveries[0].rule_id, winner, "{label}");
    }
}

#[test]
fn an_invoice_of_another_tenant_is_quarantined_and_no_rule_is_asked() {
    let payload = json!({"invoice_id": 503, "phone": "(47) 99990-0011", "description": "x"});
    let directory = directory(vec![whatsapp_rule()]);
    let named = |tenant, invoice_owner| Named {
        tenant,
        invoice_owner,
    };
    let decided = |named| {
        decide_for(
            "billing.invoice.overdue",
            "billing",
            named,
            &payload,
            &directory,
        )
    };
    let plan = decided(named(Some(2), Some(1)));
    assert_eq!(plan.failure(), Some(FailureCode::TenantMismatch));
    assert_eq!((plan.state(), plan.tried.len()), ("failed", 0));
    assert!(plan.deliveries.is_empty());
    assert_eq!(plan.tenant.tenant, None);
    assert_eq!(plan.tenant.candidates, [TenantId(1), TenantId(2)]);
    for (agreed, how) in [
        (named(Some(1), Some(1)), "explicit"),
        (named(None, Some(1)), "invoice"),
        (named(Some(1), None), "explicit"),
    ] {
        let plan = decided(agreed);
        assert_eq!(plan.failure(), None);
        assert_eq!(
            (plan.tenant.tenant, plan.tenant.how),
            (Some(TenantId(1)), how)
        );
        assert_eq!(plan.deliveries.len(), 1);
    }
}

#[test]
fn the_tenant_of_a_charge_is_what_all_that_name_one_agree_on() {
    let mut directory = directory(vec![rule(1, "asaas.payment.*", None, None)]);
    directory.asaas_customers = [
        ("cus_1".to_owned(), TenantId(1)),
        ("cus_1b".to_owned(), TenantId(1)),
        ("cus_2".to_owned(), TenantId(2)),
    ]
    .into();
    directory.asaas_accounts = [("acc-2".to_owned(), TenantId(2))].into();
    let decided = |payment: Value, account: Option<&str>, invoice_owner| {
        let payload =
            json!({"event": "PAYMENT_OVERDUE", "account": {"id": account}, "payment": payment});
        let named = Named {
            tenant: None,
            invoice_owner,
        };
        decide_for(
            "asaas.payment.overdue",
            "asaas",
            named,
            &payload,
            &directory,
        )
    };
    for (payment, account, owner, tenant, how) in [
        (
            json!({"id": "pay_1", "customer": "cus_1"}),
            None,
            None,
            Some(1),
            "asaas_customer",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_1b"}),
            None,
            Some(1),
            Some(1),
            "invoice",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_9"}),
            None,
            Some(2),
            Some(2),
            "invoice",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_9", "externalReference": "tenant:2;invoice:7"}),
            None,
            None,
            Some(2),
            "external_reference",
        ),
        (
            json!({"id": "pay_1"}),
            Some("acc-2"),
            None,
            Some(2),
            "asaas_account",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_9"}),
            Some("acc-9"),
            None,
            None,
            "unresolved",
        ),
        (
            json!({"id": "pay_1", "externalReference": "tenant:4711"}),
            None,
            None,
            None,
            "unresolved",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_1"}),
            None,
            Some(2),
            None,
            "tenant_mismatch",
        ),
        (
            json!({"id": "pay_1", "customer": "cus_1", "externalReference": "tenant:2"}),
            None,
            None,
            None,
            "tenant_mismatch",
        ),
    ] {
        let plan = decided(payment.clone(), account, owner);
        assert_eq!(plan.tenant.how, how, "{payment}");
        assert_eq!(plan.tenant.tenant, tenant.map(TenantId), "{payment}");
        assert!(plan.deliveries.is_empty());
    }
    let plan = decided(
        json!({"id": "pay_1", "customer": "cus_1", "status": "OVERDUE", "dueDate": "2026-02-02"}),
        None,
        None,
    );
    assert_eq!(plan.state(), "routed");
    let decision: Value = serde_json::from_str(plan.decision().get()).expect("a decision is JSON");
    assert_eq!(
        decision["charge"],
        json!({"status": "overdue", "due": "2026-02-02"})
    );
    let own = decide_for(
        "asaas.transfer.created",
        "asaas",
        Named::default(),
        &json!({"event": "TRANSFER_CREATED", "transfer": {"id": "t1"}}),
        &directory,
    );
    assert_eq!((own.tenant.how, own.state()), ("none", "unrouted"));
}

#[test]
fn every_rule_says_why_it_did_not_fire() {
    let rules = vec![
        whatsapp_rule(),
        rule(
            2,
            "billing.invoice.paid",
            Some(Channel::Whatsapp),
            Some("overdue_7d"),
        ),
        Rule {
            source_system: Some("asaas".to_owned()),
            ..rule(3, "billing.*", None, None)
        },
        Rule {
            tenant_id: Some(TenantId(2)),
            ..rule(4, "billing.*", None, None)
        },
        Rule {
            condition: Some(Expression::compile("payload.amount > 100")),
            ..rule(5, "billing.*", None, None)
        },
        Rule {
            condition: Some(Expression::compile("payload.")),
            ..rule(6, "billing.*", None, None)
        },
        rule(7, "billing.*", Some(Channel::Whatsapp), Some("overdue_3d")),
        rule(8, "billing.*", None, None),
    ];
    let plan = overdue(
        &json!({"phone": "47999900011", "description": "x", "amount": 50}),
        1,
        rules,
    );
    let said = verdicts(&plan);
    assert_eq!(said[0], (1, Verdict::Won));
    assert_eq!(said[1], (2, Verdict::OtherType));
    assert_eq!(said[2], (3, Verdict::OtherSource));
    assert_eq!(said[3], (4, Verdict::OtherTenant));
    assert_eq!(said[4], (5, Verdict::ConditionFalse));
    assert!(
        matches!(said[5], (6, Verdict::ConditionInvalid { .. })),
        "{:?}",
        said[5]
    );
    assert_eq!(said[6], (7, Verdict::Outranked { by: 1 }));
    assert_eq!(
        said[7],
        (8, Verdict::Won),
        "a rule that says \"nothing leaves\" harms no channel"
    );
}

#[test]
fn the_stage_of_the_event_chooses_the_template() {
    let staged = Rule {
        template_expr: Some(Expression::compile("payload.stage")),
        ..whatsapp_rule()
    };
    let key = |stage: Value| {
        let payload = json!({"phone": "47999900011", "description": "x", "stage": stage});
        overdue(&payload, 1, vec![staged.clone()]).deliveries[0]
            .template_key
            .clone()
    };
    assert_eq!(key(json!("overdue_3d")).as_deref(), Some("overdue_3d"));
    assert_eq!(key(Value::Null).as_deref(), Some("overdue_7d"));
    assert_eq!(key(json!("")).as_deref(), Some("overdue_7d"));
}

fn text_from(address: &str, name: &str) -> Value {
    json!({
        "event": "message", "session": {"id": "Pixel12 Digital"},
        "message": {"id": format!("false_{address}_ABC"), "from": address, "text": "oi", "timestamp": 1_770_300_001},
        "raw": {"payload": {"event": "onmessage", "type": "chat", "fromMe": false, "notifyName": name, "from": address}}
    })
}

#[test]
fn a_tenant_is_found_by_the_one_phone_that_matches_and_by_nothing_else() {
    let cases = [
        (
            "554799900011@c.us",
            Some(TenantId(1)),
            "contact_phone",
            vec![],
        ),
        (
            "5547999900011@c.us",
            Some(TenantId(1)),
            "contact_phone",
            vec![],
        ),
        (
            "555381600044@c.us",
            None,
            "ambiguous_phone",
            vec![TenantId(4), TenantId(5)],
        ),
        ("5521977700099@c.us", None, "unresolved", vec![]),
        ("999988887777666@lid", None, "unresolved", vec![]),
    ];
    for (address, tenant, how, candidates) in cases {
        let rules = vec![rule(
            1,
            "whatsapp.inbound.message",
            Some(Channel::Chat),
            None,
        )];
        let plan = decide(
            "whatsapp.inbound.message",
            "wpp_gateway",
            None,
            &text_from(address, "Marina Teste Souza"),
            &directory(rules),
        );
        assert_eq!(
            (plan.tenant.tenant, plan.tenant.how),
            (tenant, how),
            "{address}"
        );
        assert_eq!(plan.tenant.candidates, candidates, "{address}");
        assert_eq!(
            plan.deliveries.len(),
            1,
            "{address} is on a thread all the same"
        );
    }
}

#[test]
fn the_stored_decision_holds_no_personal_data() {
    let payload = json!({"phone": "(47) 98765-4321", "customer_name": "Fulano Marcado", "description": "TEXTO-MARCADO"});
    let decision = overdue(&payload, 1, vec![whatsapp_rule()])
        .decision()
        .to_string();
    for marker in ["98765", "87654321", "Fulano", "TEXTO-MARCADO"] {
        assert!(!decision.contains(marker), "{marker} in {decision}");
    }
}

proptest! {
    #[test]
    fn the_same_event_and_configuration_decide_the_same(
        amount in 0u32..1000,
        phone in "[0-9 ()+-]{0,16}",
        text in "\\PC{0,40}",
    ) {
        let payload = json!({"phone": phone, "description": text, "amount": amount});
        let rules = || vec![whatsapp_rule(), rule(2, "billing.*", Some(Channel::Chat), None)];
        let (first, second) = (overdue(&payload, 1, rules()), overdue(&payload, 1, rules()));
        prop_assert_eq!(first.decision().to_string(), second.decision().to_string());
        for planned in &first.deliveries {
            prop_assert_eq!(planned.failure.is_none(), planned.state() == DeliveryState::Queued);
            prop_assert!(planned.failure.is_some() || planned.text.is_some(), "what is queued has a whole text");
        }
    }
}
