//! Service orders come in by import, and their public links open and close by it.

use posto_tests::world::{Leaves, World};
use serde_json::{Value, json};

use crate::door::{database_url, door_only};
use crate::rig::page;

const TOKEN: &str = "imported-order-token-0001";

async fn import(world: &World, orders: Value) -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4().simple()));
    std::fs::write(&file, json!({"service_orders": orders}).to_string())?;
    let arguments = [
        "ingest".into(),
        "admin".into(),
        "import".into(),
        file.clone().into_os_string(),
        "--database-url".into(),
        database_url(world).into(),
    ];
    let done = ingest::process::run(arguments).await;
    std::fs::remove_file(&file)?;
    done
}

async fn is_open(world: &World) -> bool {
    let (status, text) = page(world, TOKEN).await;
    assert_eq!(status, 200);
    !text.starts_with("Pedido não encontrado")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_link_opens_stays_and_is_taken_back() {
    let world = door_only().await;
    let import = async |orders| import(&world, orders).await;
    assert!(!is_open(&world).await);
    let order = json!({"id": 501, "tenant_id": 1, "status": "em andamento", "customer_name": "Ana", "token": TOKEN});
    import(json!([order])).await.expect("an order");
    assert!(is_open(&world).await);
    let (_, shown) = page(&world, TOKEN).await;
    assert!(
        shown.contains("em andamento") && shown.contains("Pedido 501"),
        "{shown}"
    );
    // Safe to repeat, and an order that names no token keeps its link.
    import(json!([order])).await.expect("the same");
    import(json!([{"id": 501, "tenant_id": 1, "status": "entregue"}]))
        .await
        .expect("the same");
    assert!(is_open(&world).await);
    import(json!([{"id": 501, "tenant_id": 1, "token": null}]))
        .await
        .expect("no link");
    assert!(!is_open(&world).await);

    for orders in [
        json!([{"id": 502, "tenant_id": 999}]),
        json!([{"id": 502, "token": "short"}]),
        json!([{"id": 502, "token": TOKEN}, {"id": 503, "token": TOKEN}]),
    ] {
        assert!(import(orders.clone()).await.is_err(), "{orders}");
    }
    let rows = world
        .texts("select concat_ws('|', id, tenant_id, status) from service_orders")
        .await;
    assert_eq!(rows, ["501|1|open"], "all of a file or nothing");
    world.end(Leaves::Nothing).await;
}
