//! What Posto itself remarks about an event, in a member of its metadata that no caller can set.

use serde_json::{Value, json};

use crate::domain::module::Module;

/// The member.
const OWN: &str = "posto";

/// The metadata of an event with Posto's own remark, and without any that a caller made look like it.
#[must_use]
pub fn mark(mut metadata: Value, shadow: Option<Module>) -> Value {
    if let Some(members) = metadata.as_object_mut() {
        members.remove(OWN);
        if let Some(module) = shadow {
            members.insert(OWN.to_owned(), json!({"shadow": module.as_str()}));
        }
    }
    metadata
}

/// Whether the event came by a module that was in shadow: what it leads to is told and never leaves.
#[must_use]
pub fn is_in_shadow(metadata: &Value) -> bool {
    metadata[OWN]["shadow"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_posto_itself_says_that_an_event_is_in_shadow() {
        let forged = json!({"posto": {"shadow": "chat"}, "note": "x"});
        assert_eq!(mark(forged.clone(), None), json!({"note": "x"}));
        assert!(!is_in_shadow(&mark(forged.clone(), None)));
        let marked = mark(forged, Some(Module::Tenants));
        assert_eq!(marked, json!({"note": "x", "posto": {"shadow": "tenants"}}));
        assert!(is_in_shadow(&marked));
        assert!(!is_in_shadow(&json!({})));
    }
}
