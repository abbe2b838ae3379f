//! What the fence costs: every checked query of the store, planned as the login that no policy binds and
//! as the roles. As the worker the plan is the same to the letter.

use std::fs;
use std::path::Path;

use posto_tests::world::{Leaves, World};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// A query with how many parameters it has.
struct Query {
    text: String,
    parameters: usize,
}

/// What `./tests/prepare-queries` wrote down.
fn queries() -> Vec<Query> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.parent().expect("the workspace").join(".sqlx");
    let files = fs::read_dir(folder).expect("because the data is committed");
    let mut queries: Vec<Query> = files
        .map(|entry| {
            let text = fs::read_to_string(entry.expect("an entry").path())
                .expect("because it was just listed");
            let data: Value = serde_json::from_str(&text).expect("because sqlx wrote it");
            let parameters = data["describe"]["parameters"]["Left"].as_array();
            Query {
                text: data["query"].as_str().expect("a query").to_owned(),
                parameters: parameters.map_or(0, Vec::len),
            }
        })
        .collect();
    queries.sort_by(|one, other| one.text.cmp(&other.text));
    queries
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files of the store that answer whoever asks from outside, as one line.
fn questions_of_callers() -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let store = tests
        .parent()
        .expect("the workspace")
        .join("shared/src/store");
    let files = [
        "traces",
        "dropped",
        "dead_letter_search",
        "audit",
        "settle",
        "sessions",
        "tenants",
    ];
    let texts = files.map(|name| {
        let text = fs::read_to_string(store.join(name).with_extension("rs"));
        one_line(&text.unwrap_or_else(|error| panic!("{name}: {error}")))
    });
    texts.join(" ")
}

async fn run(conn: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(conn)
        .await
        .map(|_| ())
}

/// The generic plan of a query as a role; `None` where the role may not run it.
async fn plan(conn: &mut PgConnection, query: &Query, role: &str) -> Option<Vec<String>> {
    run(conn, &format!("begin; {role}"))
        .await
        .expect("a transaction");
    let nulls = vec!["null"; query.parameters].join(", ");
    let arguments = if query.parameters == 0 {
        String::new()
    } else {
        format!("({nulls})")
    };
    let planned = async {
        run(conn, &format!("prepare it as {}", query.text)).await?;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "explain (costs off) execute it{arguments}"
        )))
        .fetch_all(&mut *conn)
        .await
    };
    let planned = planned.await;
    run(conn, "rollback; deallocate all")
        .await
        .expect("the end of it");
    match planned {
        Ok(rows) => Some(rows.iter().map(|row| ordered(row.get(0))).collect()),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{error}: {}", query.text);
            None
        }
    }
}

/// A line with its conditions in one order: those of a view or a policy come in another, which changes
/// nothing of what is read.
fn ordered(line: &str) -> String {
    let Some((before, conditions)) = line.split_once("Filter: (") else {
        return line.to_owned();
    };
    let conditions = conditions.trim_end_matches(')');
    let mut parts: Vec<&str> = conditions
        .split(" AND ")
        .map(|part| part.trim_matches(['(', ')']))
        .collect();
    parts.sort_unstable();
    format!("{before}Filter: {}", parts.join(" AND "))
}

/// The lines that walk a whole table.
fn walks(plan: &[String]) -> usize {
    plan.iter()
        .filter(|line| line.contains("Seq Scan on"))
        .count()
}

const WORKER: &str = "set local role posto_worker";
const READER: &str = "set local role posto_reader; set local hub.tenants = '{1}'";

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_changes_no_plan_of_a_worker_and_makes_no_reader_walk_a_table() {
    let world = World::start().await;
    let mut conn = world.db.acquire().await.expect("a connection");
    // As the pool of the services has them.
    let settings =
        "set enable_seqscan = off; set plan_cache_mode = force_generic_plan; set jit = off";
    run(&mut conn, settings).await.expect("settings");
    let asked_for_callers = questions_of_callers();
    let (mut by_worker, mut by_reader) = (0, 0);
    for query in queries() {
        let verb = query
            .text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_lowercase();
        if !["select", "insert", "update", "delete", "with"].contains(&verb.as_str()) {
            continue;
        }
        let free = plan(&mut conn, &query, "select")
            .await
            .expect("because nothing binds it");
        if let Some(fenced) = plan(&mut conn, &query, WORKER).await {
            assert_eq!(fenced, free, "as posto_worker: {}", query.text);
            by_worker += 1;
        }
        if !asked_for_callers.contains(&one_line(&query.text)) {
            continue;
        }
        if let Some(fenced) = plan(&mut conn, &query, READER).await {
            assert!(
                walks(&fenced) <= walks(&free),
                "as posto_reader: {}\n{}",
                query.text,
                fenced.join("\n")
            );
            by_reader += 1;
        }
    }
    assert!(
        by_worker > 120 && by_reader > 15,
        "{by_worker} and {by_reader} plans were compared"
    );
    drop(conn);
    world.end(Leaves::Nothing).await;
}
