//! `/admin/deliveries`: those whose outcome nobody knows, and a person's word about one of them.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use shared::domain::delivery::{DeliveryState, Finding};
use shared::domain::ids::DeliveryId;
use shared::domain::mask;
use shared::store::StoreError;
use shared::store::audit::Author;
use shared::store::settle::{self, DeliveryLine, SettleOrder, SettledByHand};

use super::answers::{DeliveryPage, Settled};
use super::fields::{Fields, invalid, invalid_query};
use super::{AdminState, actor, not_found, unavailable};
use crate::api::problem::{Code, Problem};

/// The states that are listed.
pub(super) const LISTED: [&str; 3] = ["unknown", "dead", "failed"];
/// A page of the list, and the longest.
const PAGE: i64 = 50;
const LONGEST_PAGE: i64 = 500;

/// `GET /admin/deliveries?state=unknown`: page by page, recipients masked.
pub(super) async fn list(State(state): State<AdminState>, mut fields: Fields) -> Response {
    let wanted = fields
        .one_of("state", &LISTED)
        .and_then(|text| text.parse().ok())
        .unwrap_or(DeliveryState::Unknown);
    let after = fields.id("after").unwrap_or_default();
    let limit = fields.number("limit").unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        fields.wrong("limit", "out_of_range", "is 1 to 500");
    }
    if let Err(errors) = fields.end() {
        return invalid_query(errors).into_response();
    }
    let page = async { settle::page(&mut *state.reader().await?, wanted, after, limit).await };
    match page.await {
        Ok(mut deliveries) => {
            deliveries.iter_mut().for_each(mask_line);
            let full = i64::try_from(deliveries.len()).is_ok_and(|count| count == limit);
            let next = deliveries
                .last()
                .filter(|_| full)
                .map(|last| last.delivery_id);
            Json(DeliveryPage { deliveries, next }).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

fn mask_line(line: &mut DeliveryLine) {
    line.recipient = line.recipient.as_deref().map(|recipient| {
        if line.channel == "whatsapp" {
            mask::mask_phone(recipient)
        } else {
            mask::mask_text(recipient)
        }
    });
}

/// `POST /admin/deliveries/{id}/settle`.
pub(super) async fn settle(
    State(state): State<AdminState>,
    id: Result<Path<DeliveryId>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(id)) = id else { return not_found() };
    let headers = request.headers().clone();
    let mut fields = match Fields::of_body(request).await {
        Ok(fields) => fields,
        Err(problem) => return problem.into_response(),
    };
    let outcome = fields.one_of("outcome", &Finding::ALL.map(Finding::as_str));
    if outcome.is_none() && !fields.is_wrong("outcome") {
        fields.wrong("outcome", "missing", "is `delivered` or `not_delivered`");
    }
    let finding = if outcome.as_deref() == Some(Finding::Delivered.as_str()) {
        Finding::Delivered
    } else {
        Finding::NotDelivered
    };
    let resend = fields.flag("resend");
    if resend && finding == Finding::Delivered {
        fields.wrong(
            "resend",
            "out_of_range",
            "what was delivered is not sent again",
        );
    }
    let reason = fields.text("reason");
    if reason.is_none() && !fields.is_wrong("reason") {
        fields.wrong("reason", "missing", "tells how you know");
    }
    let actor = actor(&mut fields, &headers);
    if let Err(errors) = fields.end() {
        return invalid(errors).into_response();
    }
    let order = SettleOrder {
        delivery_id: id.0,
        finding,
        resend,
        author: Author {
            actor: &actor,
            reason: reason.as_deref(),
        },
    };
    match carry_out(&state, &order).await {
        Ok(SettledByHand::NotFound) => not_found(),
        Ok(SettledByHand::NotUnknown(current)) => Problem::new(
            Code::NotUnknown,
            format!("the delivery is `{current}`: only what is `unknown` is settled by hand"),
        )
        .into_response(),
        Ok(SettledByHand::Moved(to, rows)) => {
            state.relay.hand_over(rows);
            state
                .metrics
                .settled_by_hand
                .with_label_values(&[finding.as_str()])
                .inc();
            tracing::info!(
                delivery.id = %id,
                outcome = finding.as_str(),
                "an operator settled a delivery by hand"
            );
            Json(Settled {
                delivery_id: id,
                outcome: finding.as_str(),
                state: to.as_str(),
                resend,
            })
            .into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn carry_out(
    state: &AdminState,
    order: &SettleOrder<'_>,
) -> Result<SettledByHand, StoreError> {
    let mut tx = state.writer().await?;
    let settled = settle::settle(&mut tx, order).await?;
    tx.commit().await?;
    Ok(settled)
}
