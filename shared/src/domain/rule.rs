//! Routing rules: for which events they are, and which of them wins.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use super::channel::Channel;
use super::expression::Expression;
use super::ids::TenantId;

/// A rule, as an operator wrote it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number; the older one wins a tie.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Exact, or a pattern: `*` stands for one or more characters.
    pub event_type: String,
    /// The only source it is for.
    pub source_system: Option<String>,
    /// The only tenant it is for.
    pub tenant_id: Option<TenantId>,
    /// An expression over `event`, `payload` and `tenant`.
    pub condition: Option<Expression>,
    /// Where it leads; none is a rule that says "nothing leaves".
    pub channel: Option<Channel>,
    /// The template's key.
    pub template: Option<String>,
    /// An expression that may name another template.
    pub template_expr: Option<Expression>,
    /// The lowest number wins its channel.
    pub priority: i32,
    /// Asks for an AI answer.
    pub needs_ai: bool,
    /// Asks for a person.
    pub needs_human: bool,
}

/// What came of one rule for one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It decides for its channel.
    Won,
    /// It fits, but another one of its channel comes first.
    Outranked {
        /// The rule that won.
        by: i64,
    },
    /// It is for another type of event.
    OtherType,
    /// It is for another source.
    OtherSource,
    /// It is for another tenant.
    OtherTenant,
    /// Its condition does not hold.
    ConditionFalse,
    /// Its condition could not be evaluated.
    ConditionInvalid {
        /// What the expression engine says; never a value of the payload.
        detail: String,
    },
}

impl Rule {
    /// Whether the rule is for that kind of event at all; the condition is asked afterwards.
    #[must_use]
    pub fn scope_verdict(
        &self,
        event_type: &str,
        source: &str,
        tenant: Option<TenantId>,
    ) -> Option<Verdict> {
        if !type_matches(&self.event_type, event_type) {
            Some(Verdict::OtherType)
        } else if self
            .source_system
            .as_deref()
            .is_some_and(|wanted| wanted != source)
        {
            Some(Verdict::OtherSource)
        } else if self.tenant_id.is_some() && self.tenant_id != tenant {
            Some(Verdict::OtherTenant)
        } else {
            None
        }
    }

    /// Sorts the winner of a channel first: priority, then the more specific, then the older.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        let literal = self.event_type.bytes().filter(|b| *b != b'*').count();
        let specific = (
            self.tenant_id.is_some(),
            !self.event_type.contains('*'),
            literal,
            self.source_system.is_some(),
            self.condition.is_some(),
        );
        (self.priority, Reverse(specific), self.id)
    }

    /// The label of the channel in the stored decision.
    #[must_use]
    pub fn channel_label(&self) -> &'static str {
        self.channel.map_or("none", Channel::as_str)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} ({})", self.id, self.name)
    }
}

/// Whether a pattern of a rule or of a credential's scope covers a type. The `*` is the pattern's,
/// never the event's, and stands for one or more characters, dots included (facts §4.2: siblings
/// never match).
#[must_use]
pub fn type_matches(pattern: &str, event_type: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = event_type.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        // The star before `part` takes at least one character.
        let Some(skipped) = rest.chars().next() else {
            return false;
        };
        let after_star = &rest[skipped.len_utf8()..];
        if parts.peek().is_none() {
            return after_star.ends_with(part);
        }
        let Some(at) = after_star.find(part) else {
            return false;
        };
        rest = &after_star[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_covers_what_its_star_expands_to_and_no_sibling() {
        let cases = [
            ("billing.invoice.overdue", "billing.invoice.overdue", true),
            ("billing.invoice.overdue", "billing.invoice.paid", false),
            ("billing.invoice.*", "billing.invoice.paid", true),
            ("billing.*", "billing.invoice.paid", true),
            ("billing.*", "billing", false),
            ("billing.*", "billing.", false),
            ("*", "anything.at.all", true),
            ("*", "", false),
            ("*.paid", "billing.invoice.paid", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", false),
            ("asaas.payment.*", "asaas.subscription.created", false),
        ];
        for (pattern, event_type, expected) in cases {
            assert_eq!(
                type_matches(pattern, event_type),
                expected,
                "{pattern} ~ {event_type}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_a_star_is_equality(a in "[a-z.]{0,12}", b in "[a-z.]{0,12}") {
            prop_assert_eq!(type_matches(&a, &b), a == b);
        }

        #[test]
        fn matching_never_panics(pattern in "[a-zé*.]{0,12}", event_type in "\\PC{0,12}") {
            let _ = type_matches(&pattern, &event_type);
        }
    }
}
