//! A message of a tenant's timeline, as PixelHub's pages show it. Pure.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::store::tenant_messages::SentLine;

/// So much of a text is shown at once, in characters.
const EXCERPT: usize = 100;

/// One item; names and order are PixelHub's.
#[derive(Clone, Serialize, JsonSchema)]
#[schemars(rename = "TimelineItem")]
pub(super) struct Told {
    /// `billing` or `generic`.
    source: &'static str,
    /// When it left.
    sent_at: DateTime<Utc>,
    /// The template.
    template_id: Option<i64>,
    /// Its key, or the name that whoever sent it gave.
    template_name: Option<String>,
    /// What it was, for a person.
    description: String,
    /// The beginning of its text.
    message: String,
    /// Its text.
    message_full: String,
    /// The address as it was given.
    phone: Option<String>,
    /// The invoice: a number of PixelHub's, a text of another system's, or null.
    invoice_id: Value,
    /// Which reminder it was.
    stage: Option<String>,
}

impl Told {
    pub(super) fn of(line: SentLine) -> Self {
        let is_billing = line.event_type.starts_with("billing.");
        let text = line.text.unwrap_or_default();
        let stage = line.template.clone().filter(|_| is_billing);
        let invoice = line
            .invoice_key
            .as_deref()
            .and_then(|key| key.strip_prefix("invoice:"));
        Self {
            source: if is_billing { "billing" } else { "generic" },
            sent_at: line.sent_at,
            template_id: line.template_id,
            template_name: line.template,
            description: description(is_billing, line.by_hand, stage.as_deref()),
            message: excerpt(&text),
            message_full: text,
            phone: line.phone,
            invoice_id: invoice.map_or(Value::Null, |id| {
                // PixelHub's numbers are numbers; other systems may name theirs otherwise.
                id.parse::<i64>().map_or_else(|_| id.into(), Value::from)
            }),
            stage,
        }
    }
}

fn description(is_billing: bool, by_hand: bool, stage: Option<&str>) -> String {
    let when = match stage {
        Some("pre_due") => "antes do vencimento",
        Some("due_day") => "no dia do vencimento",
        Some("overdue_1d") => "1 dia após o vencimento",
        Some("overdue_3d") => "3 dias após o vencimento",
        Some("overdue_7d") => "7 dias após o vencimento",
        Some("overdue_15d") => "15 dias após o vencimento",
        _ => "",
    };
    match (is_billing, by_hand) {
        (true, _) if !when.is_empty() => format!("Cobrança: {when}"),
        (true, _) => "Cobrança".to_owned(),
        (false, true) => "Mensagem enviada manualmente".to_owned(),
        (false, false) => "Mensagem enviada automaticamente".to_owned(),
    }
}

/// The beginning of a text on one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        None => line,
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(event_type: &str) -> SentLine {
        SentLine {
            sent_at: DateTime::UNIX_EPOCH,
            event_type: event_type.to_owned(),
            by_hand: false,
            template_id: Some(5),
            template: Some("overdue_7d".to_owned()),
            text: Some("Olá,\n\nsua fatura".to_owned()),
            phone: Some("5547999900011".to_owned()),
            invoice_key: Some("invoice:503".to_owned()),
        }
    }

    fn told(line: SentLine) -> Value {
        serde_json::to_value(Told::of(line)).unwrap()
    }

    #[test]
    fn a_reminder_tells_its_invoice_and_its_stage() {
        assert_eq!(
            told(line("billing.invoice.overdue")),
            json!({
                "source": "billing", "sent_at": "1970-01-01T00:00:00Z", "template_id": 5,
                "template_name": "overdue_7d", "description": "Cobrança: 7 dias após o vencimento",
                "message": "Olá, sua fatura", "message_full": "Olá,\n\nsua fatura",
                "phone": "5547999900011", "invoice_id": 503, "stage": "overdue_7d"
            })
        );
    }

    #[test]
    fn what_is_no_reminder_has_no_stage() {
        let by_hand = SentLine {
            by_hand: true,
            invoice_key: None,
            text: None,
            ..line("whatsapp.message.logged")
        };
        let told = told(by_hand);
        assert_eq!(told["source"], "generic");
        assert_eq!(told["stage"], Value::Null);
        assert_eq!(told["invoice_id"], Value::Null);
        assert_eq!(told["description"], "Mensagem enviada manualmente");
        assert_eq!(told["message_full"], "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(excerpt(&"é".repeat(100)), "é".repeat(100));
        assert_eq!(excerpt(&"é".repeat(101)), format!("{}…", "é".repeat(100)));
    }
}
