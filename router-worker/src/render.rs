//! The words of a message: which template, with which variables. Pure.

use serde_json::{Map, Value, json};
use shared::domain::channel::Channel;
use shared::domain::directory::{Directory, Tenant};
use shared::domain::failure::FailureCode;
use shared::domain::rule::Rule;
use shared::domain::template::{RenderError, Template, name_from};

/// A rendered message.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) template_id: i64,
    pub(crate) template_key: String,
    pub(crate) lane: String,
    pub(crate) unknown_policy: String,
    pub(crate) text: Result<String, RenderError>,
}

/// What conditions and template expressions may look at.
pub(crate) fn context(
    event_type: &str,
    source: &str,
    payload: &Value,
    tenant: Option<&Tenant>,
) -> Value {
    json!({
        "event": {"type": event_type, "source": source},
        "payload": payload,
        "tenant": tenant.map(|tenant| json!({"id": tenant.id, "name": tenant.calling_name()})),
    })
}

/// Renders the template that a rule asks for: the one its expression names, else its own.
///
/// # Errors
/// There is no such template; the key is told.
pub(crate) fn render(
    rule: &Rule,
    channel: Channel,
    context: &Value,
    directory: &Directory,
) -> Result<Rendered, RenderError> {
    let named = match &rule.template_expr {
        Some(expression) => name_from(expression, context).map_err(|detail| RenderError {
            code: FailureCode::TemplateNotFound,
            detail,
        })?,
        None => None,
    };
    let key = named.or_else(|| rule.template.clone()).unwrap_or_default();
    let Some(template) = directory.templates.find(&key, channel) else {
        let known = key.len() <= 100
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        // A key that came with the event is only shown when it looks like one.
        let detail = if known {
            key
        } else {
            "not a template's key".to_owned()
        };
        return Err(RenderError {
            code: FailureCode::TemplateNotFound,
            detail,
        });
    };
    Ok(Rendered {
        template_id: template.id,
        template_key: template.key.clone(),
        lane: template.lane.clone(),
        unknown_policy: template.unknown_policy.clone(),
        text: directory
            .templates
            .render(template, variables(template, context)),
    })
}

/// The payload's own values; what only the tenant knows fills gaps that the template declares.
fn variables(template: &Template, context: &Value) -> Map<String, Value> {
    let mut variables = context["payload"].as_object().cloned().unwrap_or_default();
    let needs_name = template
        .variables
        .iter()
        .any(|variable| variable.name == "customer_name");
    let has_name = variables
        .get("customer_name")
        .and_then(Value::as_str)
        .is_some_and(|name| !name.trim().is_empty());
    if needs_name && !has_name && context["tenant"].is_object() {
        variables.insert(
            "customer_name".to_owned(),
            context["tenant"]["name"].clone(),
        );
    }
    variables
}
