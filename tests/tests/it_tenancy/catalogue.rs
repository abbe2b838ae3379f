//! Every table and view of the schema, by the catalogue: none is without its fence, and through the
//! fence a stranger sees nothing, the owner its own, the agency everything.

use std::collections::BTreeMap;

use posto_tests::world::{Leaves, World};
use shared::store::scope::Scope;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::strangers::{self, services_pool};

/// Relations that `posto_reader` may read.
async fn readable(world: &World) -> Vec<String> {
    world
        .texts(
            "select c.relname::text from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
               and c.relname <> '_sqlx_migrations' and has_table_privilege('posto_reader', c.oid, 'select')
             order by 1",
        )
        .await
}

async fn rows(conn: &mut PgConnection, relations: &[String]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for relation in relations {
        let counted = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {relation}")))
            .fetch_one(&mut *conn)
            .await;
        let counted = counted.unwrap_or_else(|error| panic!("{relation}: {error}"));
        counts.insert(relation.clone(), counted);
    }
    counts
}

async fn seen(pool: &PgPool, scope: Scope, relations: &[String]) -> BTreeMap<String, i64> {
    let mut tx = scope.read(pool).await.expect("a transaction");
    rows(&mut tx, relations).await
}

fn only_some(counts: &BTreeMap<String, i64>) -> Vec<&str> {
    let some = counts.iter().filter(|(_, count)| **count > 0);
    some.map(|(relation, _)| relation.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_fenced_for_its_owner_too_and_every_view_reads_as_whoever_asks() {
    let world = World::start().await;
    let open = world
        .texts(
            "select c.relname::text from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relname <> '_sqlx_migrations'
               and (c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)
                    or c.relkind = 'v' and not coalesce(c.reloptions @> '{security_invoker=true}', false)
                    or c.relkind in ('r', 'p', 'v') and c.relowner <> 'posto_migrate'::regrole)
             order by 1",
        )
        .await;
    assert_eq!(open, [""; 0], "these have no fence, or another owner");
    // Weeks to come get theirs as they are made.
    world.run_sql("select hub_make_event_partitions(12)").await;
    let partitions = "select count(*) from pg_class where relispartition and relkind = 'r'";
    let fenced = "select count(*) from pg_class where relispartition and relkind = 'r'
                  and relrowsecurity and relforcerowsecurity and relowner = 'posto_migrate'::regrole
                  and not has_table_privilege('posto_worker', oid, 'select')
                  and not has_table_privilege('posto_reader', oid, 'select')";
    assert!(world.count(partitions).await >= 14);
    assert_eq!(world.count(partitions).await, world.count(fenced).await);
    // A table that nobody thought of: for the agency alone, or by the tenant that it names.
    world
        .run_sql(
            "create table thoughtless (x integer); insert into thoughtless values (1);
             create table of_tenants (tenant_id bigint); insert into of_tenants values (1), (2), (null);
             create or replace view dead_letter_queue as
                 select id as letter_id, queue, subject_kind, subject_id, generation, failure_code, failure_class, attempts,
                        first_failed_at, last_failed_at, trace_id, event_type, tenant_id, channel, template_key, made_by, created_at
                 from dead_letters where state = 'dead';
             select hub_fence_the_rest()",
        )
        .await;
    let pool = services_pool(&world);
    let new = ["thoughtless".to_owned(), "of_tenants".to_owned()];
    let of = async |scope| {
        seen(&pool, scope, &new)
            .await
            .into_values()
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Scope::Tenants(vec![2])).await, [1, 0]);
    assert_eq!(of(Scope::Agency).await, [3, 1]);
    let safe = "select count(*) from pg_class where relname = 'dead_letter_queue' and reloptions @> '{security_invoker=true}'";
    assert_eq!(
        world.count(safe).await,
        1,
        "replacing a view forgets it, migrating mends it"
    );
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_fence_a_stranger_sees_nothing_a_tenant_its_own_and_the_agency_everything() {
    let (world, _) = strangers::world().await;
    let pool = services_pool(&world);
    let relations = readable(&world).await;
    assert!(relations.len() > 20, "{relations:?}");
    let stranger = seen(&pool, Scope::Tenants(vec![7]), &relations).await;
    assert_eq!(
        only_some(&stranger),
        [""; 0],
        "a tenant that has nothing sees nothing"
    );
    let nobody = seen(&pool, Scope::Tenants(Vec::new()), &relations).await;
    assert_eq!(only_some(&nobody), [""; 0]);
    // Tenant 1 has itself, its account, and what the world imports for it; nothing of tenant 2.
    let first = seen(&pool, Scope::Tenants(vec![1]), &relations).await;
    assert_eq!(
        only_some(&first),
        [
            "billing_invoices",
            "tenant_asaas_ids",
            "tenant_message_channels",
            "tenants"
        ]
    );
    let second = seen(&pool, Scope::Tenants(vec![2]), &relations).await;
    assert_eq!(
        only_some(&second),
        [
            "asaas_webhook_logs",
            "billing_invoices",
            "billing_notifications",
            "chat_messages",
            "chat_threads",
            "communication_events",
            "communication_events_status",
            "communication_logs",
            "communication_timeline",
            "dead_letter_queue",
            "dead_letters",
            "deliveries",
            "delivery_attempts",
            "module_switches",
            "receipts",
            "routings",
            "service_orders",
            "tenant_asaas_ids",
            "tenant_message_channels",
            "tenants",
        ]
    );
    let agency = seen(&pool, Scope::Agency, &relations).await;
    let everything = rows(
        &mut world.db.acquire().await.expect("a connection"),
        &relations,
    )
    .await;
    assert_eq!(
        agency, everything,
        "the fence hides nothing from the agency"
    );
    // The services work on all tenants' rows at once, without being asked for whom.
    let working = async |relations: &[String]| {
        rows(&mut pool.acquire().await.expect("a connection"), relations).await
    };
    assert_eq!(working(&relations).await, everything);
    world.end(Leaves::Contradictions).await;
}
