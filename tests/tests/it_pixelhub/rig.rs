//! What the scenarios share: service orders, and requests to PixelHub's addresses.

use posto_tests::world::http::{Answer, answer};
pub(crate) use posto_tests::world::pixelhub::{OF_PAYMENTS, OF_TENANT_1, PIXELHUB_TOKEN as SERVER};
use posto_tests::world::{ADMIN_TOKEN, World};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::store::service_orders::{self, Link, OrderRow};

/// The public link of order 77, tenant 1's.
pub(crate) const ORDER_77: &str = "order-token-for-tests-only-77";
/// The public link of order 88, tenant 2's.
pub(crate) const ORDER_88: &str = "order-token-for-tests-only-88";

/// Makes the service orders.
pub(crate) async fn prepare(world: &World) {
    let mut conn = world.db.acquire().await.expect("a connection");
    for (id, tenant_id, token) in [
        (77, Some(1), Some(ORDER_77)),
        (88, Some(2), Some(ORDER_88)),
        (99, None, None),
    ] {
        let row = OrderRow {
            id,
            tenant_id,
            status: "aberto".to_owned(),
            customer_name: Some("Ana <b>Aurora</b>".to_owned()),
            link: token.map_or(Link::Kept, |token| {
                Link::Given(Sha256::digest(token).into())
            }),
        };
        service_orders::set(&mut conn, &row)
            .await
            .expect("an order");
    }
}

fn with(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// Asks an address.
pub(crate) async fn get(world: &World, token: Option<&str>, path: &str) -> Answer {
    let request = world.client().get(format!("{}{path}", world.api()));
    answer(with(request, token)).await
}

/// Posts JSON to an address.
pub(crate) async fn post(world: &World, token: Option<&str>, path: &str, body: &Value) -> Answer {
    let request = world.client().post(format!("{}{path}", world.api()));
    answer(with(request, token).json(body)).await
}

/// The status and the text of an answer.
pub(crate) async fn text_of(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("because the door is open");
    let status = response.status().as_u16();
    (status, response.text().await.expect("because it is text"))
}

/// The page of an order by its token.
pub(crate) async fn page(world: &World, token: &str) -> (u16, String) {
    let address = format!("{}/chat/order?token={token}", world.api());
    text_of(world.client().get(address)).await
}

/// Opens an order's chat and answers the number of its thread.
pub(crate) async fn thread_of(world: &World, token: &str) -> i64 {
    let (status, page) = page(world, token).await;
    assert_eq!(status, 200, "{page}");
    let (_, rest) = page
        .split_once("data-thread=\"")
        .unwrap_or_else(|| panic!("no thread in {page}"));
    let (number, _) = rest.split_once('"').expect("because it is closed");
    number.parse().expect("because a thread has a number")
}

/// Writes in a chat by the order's token.
pub(crate) async fn write(
    world: &World,
    token: &str,
    thread: i64,
    text: &str,
    key: Option<&str>,
) -> Answer {
    let mut request = world
        .client()
        .post(format!("{}/chat/message", world.api()))
        .header("x-order-token", token)
        .json(&json!({"thread_id": thread, "message": text}));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    answer(request).await
}

/// Switches a module by the admin API.
pub(crate) async fn switch(world: &World, module: &str, order: Value) -> Answer {
    let request = world
        .client()
        .put(format!("{}/admin/modules/{module}", world.admin_url()))
        .bearer_auth(ADMIN_TOKEN)
        .json(&order);
    answer(request).await
}
