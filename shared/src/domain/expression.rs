//! Expressions of rules: whether a rule's condition holds, and which template an event names. The
//! sandboxed language of the templates, so that there is one to learn.

use std::cell::OnceCell;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::ids::TenantId;
use super::template::{describe, environment};

/// An expression, compiled once for all events.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Result<minijinja::Expression<'static, 'static>, String>>);

impl Expression {
    /// Compiles an expression. One that cannot be compiled says so whenever it is asked, so that it
    /// harms no rule but its own.
    #[must_use]
    pub fn compile(text: &str) -> Self {
        static ENVIRONMENT: LazyLock<Environment<'static>> =
            LazyLock::new(|| environment(UndefinedBehavior::Chainable));
        let compiled = ENVIRONMENT.compile_expression_owned(text.to_owned());
        Self(Arc::new(compiled.map_err(|error| describe(&error))))
    }

    /// Whether a rule's condition holds. What the payload does not have is undefined, and false.
    ///
    /// # Errors
    /// What the expression engine says; the rule then does not match.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, String> {
        self.evaluate(facts).map(|value| value.is_true())
    }

    /// What the expression names, `None` when it names nothing.
    ///
    /// # Errors
    /// What the expression engine says.
    pub fn name(&self, facts: &Facts<'_>) -> Result<Option<String>, String> {
        let value = self.evaluate(facts)?;
        Ok(value
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned))
    }

    fn evaluate(&self, facts: &Facts<'_>) -> Result<Value, String> {
        match self.0.as_ref() {
            Ok(compiled) => compiled
                .eval(facts.value().clone())
                .map_err(|error| describe(&error)),
            Err(detail) => Err(detail.clone()),
        }
    }
}

/// What expressions may look at: `event`, `payload` and `tenant`.
#[derive(Debug)]
pub struct Facts<'a> {
    event: EventFacts<'a>,
    payload: &'a serde_json::Value,
    tenant: Option<TenantFacts<'a>>,
    /// The same for the expression engine; most events meet no rule that asks.
    value: OnceCell<Value>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct EventFacts<'a> {
    r#type: &'a str,
    source: &'a str,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct TenantFacts<'a> {
    id: TenantId,
    name: &'a str,
}

impl<'a> Facts<'a> {
    /// Of an event of that type and source; the tenant is told by its number and the name to greet
    /// it with.
    #[must_use]
    pub const fn new(
        (event_type, source): (&'a str, &'a str),
        payload: &'a serde_json::Value,
        tenant: Option<(TenantId, &'a str)>,
    ) -> Self {
        Self {
            event: EventFacts {
                r#type: event_type,
                source,
            },
            payload,
            tenant: match tenant {
                Some((id, name)) => Some(TenantFacts { id, name }),
                None => None,
            },
            value: OnceCell::new(),
        }
    }

    /// The event's own values.
    #[must_use]
    pub const fn payload(&self) -> &'a serde_json::Value {
        self.payload
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant_name(&self) -> Option<&'a str> {
        self.tenant.map(|tenant| tenant.name)
    }

    fn value(&self) -> &Value {
        #[derive(Serialize)]
        struct All<'a> {
            event: EventFacts<'a>,
            payload: &'a serde_json::Value,
            tenant: Option<TenantFacts<'a>>,
        }
        self.value.get_or_init(|| {
            Value::from(Serde(&All {
                event: self.event,
                payload: self.payload,
                tenant: self.tenant,
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_reads_the_payload_and_what_is_missing_is_false() {
        let payload = json!({"amount": 120, "stage": " overdue_3d "});
        let facts = Facts::new(("billing.invoice.overdue", "billing"), &payload, None);
        let holds = |text: &str| Expression::compile(text).holds(&facts);
        assert_eq!(holds("payload.amount > 100"), Ok(true));
        assert_eq!(holds("payload.nothing.here"), Ok(false));
        assert_eq!(holds("tenant.name == 'Aurora'"), Ok(false));
        assert!(holds("payload.amount >").is_err());
        let name = |text: &str| Expression::compile(text).name(&facts);
        assert_eq!(name("payload.stage"), Ok(Some("overdue_3d".to_owned())));
        assert_eq!(name("payload.nothing"), Ok(None));
    }

    #[test]
    fn an_expression_knows_the_event_and_its_tenant() {
        let facts = Facts::new(
            ("billing.invoice.overdue", "billing"),
            &serde_json::Value::Null,
            Some((TenantId(7), "Aurora")),
        );
        let all = "event.type == 'billing.invoice.overdue' and event.source == 'billing'
                   and tenant.id == 7 and tenant.name == 'Aurora'";
        assert_eq!(Expression::compile(all).holds(&facts), Ok(true));
    }
}
