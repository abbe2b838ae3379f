//! Keys, and all that a database holds.

use posto_tests::world::World;
use serde_json::Value;

/// `k1` and `k2`, and another key that goes by the name of `k1`.
pub(crate) const K1: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(crate) const K2: &str = "k2:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
pub(crate) const FALSE_K1: &str = "k1:enl4d3Z1dHNycXBvbm1sa2ppaGdmZWRjYmE5ODc2NTQ=";

/// Every row of every table and of every view, as PostgreSQL writes it; bytes in hexadecimal.
pub(crate) async fn dump(world: &World) -> String {
    let relations = world
        .texts(
            "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'public' and c.relkind in ('r', 'v') order by 1",
        )
        .await;
    assert!(relations.len() > 30, "{relations:?}");
    let mut all = String::new();
    for relation in relations {
        let rows = world
            .texts(&format!("select t::text from public.{relation} t"))
            .await;
        for row in rows {
            all.push_str(&format!("{relation}: {row}\n"));
        }
    }
    all
}

/// The line of a dump that shows a text: in clear, as bytes, or as base64 of where it begins.
pub(crate) fn shown<'a>(dump: &'a str, text: &str) -> Option<&'a str> {
    let bytes: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    dump.lines()
        .find(|line| line.contains(text) || line.contains(&bytes))
}

/// The story of a trace as operators read it who may see what is personal.
pub(crate) async fn revealed(world: &World, trace_id: &str) -> Value {
    world
        .admin(&format!("/admin/traces/{trace_id}?reveal=true"))
        .await
        .body
}
