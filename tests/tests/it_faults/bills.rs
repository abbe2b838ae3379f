//! Bills to customers that each have a number of their own, so that one world can meet many
//! faults at once; and what became of each.

use std::collections::BTreeMap;

use posto_tests::gateway_sim::{Effect, FaultRule};
use posto_tests::world::{World, overdue};
use serde_json::{Value, json};

/// A bill that was posted.
pub(crate) struct Bill {
    number: u32,
    event_id: String,
}

/// The phone of a customer, as the gateway is asked for it.
pub(crate) fn phone(number: u32) -> String {
    format!("554799990{number:04}")
}

/// The bill of a customer, with a text of its own.
pub(crate) fn overdue_of(number: u32) -> Value {
    let mut event = overdue(&format!("bill-{}", uuid::Uuid::new_v4()));
    event["payload"]["phone"] = json!(format!("(47) 99990-{number:04}"));
    event["payload"]["description"] = json!(format!("Hospedagem {number}"));
    event["payload"]["invoice_id"] = json!(number);
    event
}

/// Posts the bill of a customer.
pub(crate) async fn post(world: &World, number: u32) -> Bill {
    post_event(world, number, &overdue_of(number)).await
}

/// Posts the bill of a customer with the template of a stage.
pub(crate) async fn post_stage(world: &World, number: u32, stage: &str) -> Bill {
    let mut event = overdue_of(number);
    event["payload"]["stage"] = json!(stage);
    post_event(world, number, &event).await
}

/// Arms a fault for one customer alone and posts their bill.
pub(crate) async fn post_against(world: &World, number: u32, rule: FaultRule) -> Bill {
    world.sim.set_fault(rule.to(&phone(number)));
    post(world, number).await
}

pub(crate) async fn post_event(world: &World, number: u32, event: &Value) -> Bill {
    let accepted = world.post(event).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    Bill {
        number,
        event_id: accepted.text("/event_id"),
    }
}

impl Bill {
    /// Where the delivery stands and what its attempts say, like
    /// `dead gateway_unreachable [retry gateway_unreachable, failed gateway_unreachable]`; the
    /// reason why one is held stands in brackets.
    pub(crate) async fn fate(&self, world: &World) -> String {
        let query = format!(
            "select concat_ws(' ', d.state, d.failure_code, '(' || d.held_reason || ')',
                    '[' || coalesce(string_agg(concat_ws(' ', a.outcome, a.failure_code), ', '
                                               order by a.generation, a.number), '') || ']')
             from deliveries d left join delivery_attempts a on a.delivery_id = d.id
             where d.event_id = '{}' group by d.id",
            self.event_id
        );
        world.texts(&query).await.join(" and ")
    }

    /// Waits until the delivery stands so.
    ///
    /// # Panics
    /// When it does not within the bound of the world.
    pub(crate) async fn until(&self, world: &World, fate: &str) {
        let number = self.number;
        world
            .until(&format!("bill {number} is `{fate}`"), async |world| {
                self.fate(world).await == fate
            })
            .await;
    }

    /// For each message that the gateway took in for this customer, whether it went out.
    pub(crate) fn messages(&self, world: &World) -> Vec<bool> {
        let phone = phone(self.number);
        let all = world.sim.messages();
        all.iter()
            .filter(|message| message.to == phone)
            .map(|message| message.went_out)
            .collect()
    }

    /// How many requests for this customer arrived at the gateway, those that it refused at the
    /// door included.
    pub(crate) async fn requests(&self, world: &World) -> usize {
        let refused: u64 = armed(world)
            .await
            .iter()
            .filter(|rule| rule["to"] == json!([phone(self.number)]))
            .filter(|rule| is_refused(rule))
            .filter_map(|rule| rule["hits"].as_u64())
            .sum();
        self.messages(world).len() + usize::try_from(refused).expect("because it is small")
    }

    /// One number about the delivery.
    pub(crate) async fn count(&self, world: &World, what: &str) -> i64 {
        let event_id = &self.event_id;
        let query =
            format!("select ({what})::bigint from deliveries d where d.event_id = '{event_id}'");
        world.count(&query).await
    }

    /// The receipts about this customer, like `3 ack applied, 1 echo unbound`.
    pub(crate) async fn receipts(&self, world: &World) -> String {
        let query = format!(
            "select concat_ws(' ', count(*), kind, state) from receipts
             where recipient_key = 'tel:55479990{:04}' group by kind, state order by kind, state",
            self.number
        );
        world.texts(&query).await.join(", ")
    }
}

async fn armed(world: &World) -> Vec<Value> {
    let answer = posto_tests::world::http::answer(
        world
            .client()
            .get(format!("{}/_sim/faults", world.sim.url())),
    )
    .await;
    answer.body["faults"]
        .as_array()
        .cloned()
        .expect("because the simulator lists its faults")
}

fn is_refused(rule: &Value) -> bool {
    serde_json::from_value(rule["fault"].clone())
        .is_ok_and(|fault: posto_tests::gateway_sim::Fault| fault.effect() == Effect::Refused)
}

/// Asserts that nobody got the same words twice.
pub(crate) fn assert_nobody_got_two(world: &World) {
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    for message in world.went_out() {
        *got.entry((message.to, message.text)).or_default() += 1;
    }
    let twice: Vec<_> = got.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "got it more than once: {twice:?}");
}
