//! The words of a message: which template, with which variables. Pure.

use std::borrow::Cow;

use shared::domain::channel::Channel;
use shared::domain::directory::Directory;
use shared::domain::expression::Facts;
use shared::domain::failure::FailureCode;
use shared::domain::rule::Rule;
use shared::domain::template::{RenderError, Template, Variables};

/// What the tenant's record can fill in.
const CUSTOMER_NAME: &str = "customer_name";

/// A rendered message.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) template_id: i64,
    pub(crate) template_key: String,
    pub(crate) lane: String,
    pub(crate) unknown_policy: String,
    pub(crate) text: Result<String, RenderError>,
}

/// Renders the template that a rule asks for: the one its expression names, else its own.
///
/// # Errors
/// There is no such template; the key is told.
pub(crate) fn render(
    rule: &Rule,
    channel: Channel,
    facts: &Facts<'_>,
    directory: &Directory,
) -> Result<Rendered, RenderError> {
    let named = match &rule.template_expr {
        Some(expression) => expression.name(facts).map_err(|detail| RenderError {
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
            .render(template, variables(template, facts)),
    })
}

/// The payload's own values; what only the tenant knows fills gaps that the template declares.
fn variables<'a>(template: &Template, facts: &Facts<'a>) -> Variables<'a> {
    let own = facts.payload().as_object();
    let mut variables: Variables<'a> = own
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), Cow::Borrowed(value)))
        .collect();
    let needs_name = template
        .variables
        .iter()
        .any(|variable| variable.name == CUSTOMER_NAME);
    let has_name = variables
        .get(CUSTOMER_NAME)
        .and_then(|name| name.as_str())
        .is_some_and(|name| !name.trim().is_empty());
    if needs_name
        && !has_name
        && let Some(name) = facts.tenant_name()
    {
        variables.insert(CUSTOMER_NAME, Cow::Owned(name.into()));
    }
    variables
}
