//! Every function of the store that the API or an operator's order calls, with the first fence taken
//! out: no filter by tenant, somebody else's ids, the role of the reader. It finds and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use posto_tests::world::Leaves;
use sha2::{Digest as _, Sha256};
use shared::domain::delivery::{DeliveryState, Finding};
use shared::domain::ids::TenantId;
use shared::domain::module::{Mode, Module};
use shared::domain::redrive::Refusal;
use shared::runtime::clock::{Clock as _, SystemClock};
use shared::sealing::Keyring;
use shared::store::audit::{self, Author, NewAudit};
use shared::store::credentials::{self, NewCredential};
use shared::store::dead_letter_search::{self as search, LetterFilter};
use shared::store::logs::{self, NewLog};
use shared::store::redrive;
use shared::store::scope::Scope;
use shared::store::service_orders::Order;
use shared::store::settle::{self, SettleOrder, SettledByHand};
use shared::store::{
    StoreError, StoreResult, chat_reading, dropped, import, ip_blocks, modules, service_orders,
    sessions, sources, tenant_messages, tenants, traces,
};
use sqlx::{PgPool, PgTransaction};
use uuid::Uuid;

use crate::strangers::{self, Ids, services_pool};

const AUTHOR: Author<'_> = Author {
    actor: "a stranger",
    reason: None,
};

/// What each reading function finds.
struct Found<'a> {
    pool: &'a PgPool,
    scope: Scope,
    counts: BTreeMap<&'static str, usize>,
}

impl Found<'_> {
    async fn tx(&self) -> PgTransaction<'static> {
        self.scope.write(self.pool).await.expect("a transaction")
    }

    fn note(&mut self, function: &'static str, count: StoreResult<usize>) {
        let count = count.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        self.counts.insert(function, count);
    }
}

/// Calls every function that reads, in a scope, with tenant 2's ids and no filter.
async fn read_everything(pool: &PgPool, scope: Scope, ids: &Ids) -> BTreeMap<&'static str, usize> {
    let mut found = Found {
        pool,
        scope,
        counts: BTreeMap::new(),
    };
    let events = [ids.event, ids.found_out, ids.dropped];
    let any = LetterFilter::default();
    let seals = Keyring::default();
    let token: [u8; 32] = Sha256::digest(strangers::ORDER_TOKEN).into();
    let all = (Uuid::nil(), Uuid::max());
    macro_rules! reads {
        ($($function:literal: |$conn:ident| $call:expr, $count:expr;)*) => {$({
            let mut tx = found.tx().await;
            let $conn = &mut *tx;
            let count = $call.await.map($count);
            found.note($function, count);
        })*};
    }
    reads! {
        "traces::find_event": |conn| traces::find_event(conn, ids.event, &[], &seals), |it| usize::from(it.is_some());
        "traces::events_of_trace": |conn| traces::events_of_trace(conn, &ids.trace, &seals), |it| it.len();
        "traces::routings_of": |conn| traces::routings_of(conn, &events), |it| it.len();
        "traces::deliveries_of": |conn| traces::deliveries_of(conn, &events, &seals), |it| it.len();
        "traces::receipts_of_trace": |conn| traces::receipts_of_trace(conn, &ids.ack_trace), |it| it.len();
        "traces::timeline": |conn| traces::timeline(conn, &ids.trace), |it| it.len();
        "traces::logs_of_trace": |conn| traces::logs_of_trace(conn, &ids.log_trace), |it| it.len();
        "traces::chat_of_trace": |conn| traces::chat_of_trace(conn, &ids.chat_trace, &seals), |it| it.len();
        "dropped::find": |conn| dropped::find(conn, Some(ids.dropped), None, 1), |it| it.len();
        "dead_letter_search::groups": |conn| search::groups(conn, &any), |it| it.len();
        "dead_letter_search::page": |conn| search::page(conn, &any, Uuid::nil(), 10), |it| it.len();
        "dead_letter_search::count": |conn| search::count(conn, &any), |it| usize::try_from(it.0).unwrap_or(9);
        "dead_letter_search::ids": |conn| search::ids(conn, &any, all, 10), |it| it.len();
        "dead_letter_search::of_trace": |conn| search::of_trace(conn, &ids.dead_trace, 10), |it| it.len();
        "audit::of_trace": |conn| audit::of_trace(conn, &ids.trace), |it| it.len();
        "settle::page": |conn| settle::page(conn, DeliveryState::Unknown, Uuid::nil(), 10), |it| it.len();
        "credentials::page": |conn| credentials::page(conn, None, 0, 10), |it| it.len();
        "credentials::find_and_lock": |conn| credentials::find_and_lock(conn, ids.key), |it| usize::from(it.is_some());
        "credentials::end_of_last_successor": |conn| credentials::end_of_last_successor(conn, ids.key), |it| usize::from(it.is_some());
        "credentials::is_source": |conn| credentials::is_source(conn, &ids.source), usize::from;
        "sources::all": |conn| sources::all(conn), |it| it.len();
        "ip_blocks::list": |conn| ip_blocks::list(conn, 10), |it| it.len();
        "sessions::all": |conn| sessions::all(conn), |it| it.len();
        "tenants::exists": |conn| tenants::exists(conn, TenantId(ids.tenant)), usize::from;
        "modules::all": |conn| modules::all(conn), |it| it.len();
        "service_orders::find": |conn| service_orders::find(conn, ids.order), |it| usize::from(it.is_some());
        "service_orders::find_by_token": |conn| service_orders::find_by_token(conn, token), |it| usize::from(it.is_some());
        "chat_reading::find": |conn| chat_reading::find(conn, ids.thread), |it| usize::from(it.is_some());
        "chat_reading::messages": |conn| chat_reading::messages(conn, &seals, ids.thread, &["user"], (0, 10)), |it| it.len();
        "tenant_messages::last": |conn| tenant_messages::last(conn, &seals, ids.tenant, 10), |it| it.len();
        "tenants::unknown_of": |conn| tenants::unknown_of(conn, &[ids.tenant]), |it| 1 - it.len();
    }
    found.counts
}

/// The functions that write, with what each must come to when the row is a stranger's.
const WRITES: [&str; 14] = [
    "audit::insert",
    "credentials::end_within",
    "credentials::mark_used",
    "credentials::put",
    "credentials::revoke",
    "import::source",
    "ip_blocks::lift",
    "logs::insert",
    "modules::set",
    "redrive::discard",
    "redrive::redrive",
    "service_orders::open_thread",
    "settle::settle",
    "sources::set_networks",
];

/// Calls every function that writes as a reader of tenant 1, and commits whatever it did.
async fn write_everything(pool: &PgPool, ids: &Ids) -> BTreeSet<&'static str> {
    let scope = Scope::Tenants(vec![1]);
    let mut called = BTreeSet::new();
    macro_rules! writes {
        ($($function:literal is $expected:pat => |$conn:ident| $call:expr;)*) => {$({
            let mut tx = scope.write(pool).await.expect("a transaction");
            let $conn = &mut *tx;
            let came_to = $call.await;
            assert!(matches!(came_to, $expected), "{}: {came_to:?}", $function);
            // A transaction that failed has nothing to keep.
            let _ = tx.commit().await;
            called.insert($function);
        })*};
    }
    let order = redrive::Order {
        author: AUTHOR,
        action: "redriven",
        force: true,
        headers: None,
        dry_run: false,
    };
    let found_out = SettleOrder {
        delivery_id: ids.unknown,
        finding: Finding::Delivered,
        resend: false,
        author: AUTHOR,
    };
    let credential = NewCredential {
        source_system: &ids.source,
        label: "a stranger's",
        secret_sha256: [7; 32],
        signing_secret: None,
        hint: "",
        tenants: &[ids.tenant],
        event_types: &[],
        valid_until: None,
        replaces: None,
    };
    let line = NewAudit {
        action: "redriven",
        subject_kind: "event",
        subject_id: Some(ids.event),
        trace_id: Some(ids.trace.clone()),
        detail: serde_json::json!({}),
    };
    let log = NewLog {
        level: "info",
        tenant_id: Some(ids.tenant),
        code: "strange".to_owned(),
        message: "a stranger was here".to_owned(),
        ..NewLog::default()
    };
    let uses = [(ids.key, SystemClock.now())];
    let of_nobody = Order {
        id: 7_003,
        tenant_id: Some(ids.tenant),
        status: "open".to_owned(),
        customer_name: None,
        thread_id: None,
    };
    let networks = ["203.0.113.0/24".to_owned()];
    writes! {
        "redrive::redrive" is Ok(Err(Refusal::NotFound)) => |conn| async { redrive::redrive(conn, &[ids.letter], &order).await.map(|it| it.verdicts[0].1) };
        "redrive::discard" is Ok(Err(Refusal::NotFound)) => |conn| async { redrive::discard(conn, &[ids.letter], &order).await.map(|it| it[0].1) };
        "settle::settle" is Ok(SettledByHand::NotFound) => |conn| settle::settle(conn, &found_out);
        "sources::set_networks" is Ok(false) => |conn| sources::set_networks(conn, &ids.source, &networks);
        "ip_blocks::lift" is Ok(false) => |conn| ip_blocks::lift(conn, &ids.address);
        "credentials::put" is Err(StoreError::Unavailable(_)) => |conn| credentials::put(conn, &credential);
        "credentials::end_within" is Err(StoreError::Unavailable(_)) => |conn| credentials::end_within(conn, ids.key, 1.0);
        "import::source" is Err(StoreError::Unavailable(_)) => |conn| import::source(conn, "a-strangers");
        "modules::set" is Err(StoreError::Unavailable(_)) => |conn| modules::set(conn, Module::Tenants, Some(TenantId(ids.tenant)), Some(Mode::Off), "a stranger");
        "service_orders::open_thread" is Err(StoreError::Unavailable(_)) => |conn| service_orders::open_thread(conn, &of_nobody, ("pixelhub", &ids.trace));
        // These change no row that they cannot see, and say nothing.
        "credentials::revoke" is Ok(()) => |conn| credentials::revoke(conn, ids.key);
        "credentials::mark_used" is Ok(()) => |conn| credentials::mark_used(conn, &uses);
        "audit::insert" is Err(StoreError::Unavailable(_)) => |conn| audit::insert(conn, AUTHOR, std::slice::from_ref(&line));
        "logs::insert" is Err(StoreError::Unavailable(_)) => |conn| logs::insert(conn, std::slice::from_ref(&log));
    }
    called
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_first_fence_out_every_function_that_answers_a_caller_finds_and_changes_nothing_of_another_tenant()
 {
    let (world, ids) = strangers::world().await;
    let pool = services_pool(&world);
    let stranger = read_everything(&pool, Scope::Tenants(vec![1]), &ids).await;
    for (function, count) in &stranger {
        assert_eq!(
            *count, 0,
            "{function} finds what is tenant 2's or the agency's"
        );
    }
    // The same calls find the same rows for whom they are: it is the fence that hides them.
    let agency = read_everything(&pool, Scope::Agency, &ids).await;
    for (function, count) in &agency {
        let empty = *function == "credentials::end_of_last_successor";
        assert_eq!(*count > 0, !empty, "{function} for the agency");
    }
    let own = read_everything(&pool, Scope::Tenants(vec![2]), &ids).await;
    for (function, count) in &own {
        let agencys = [
            "audit::",
            "credentials::",
            "sources::",
            "ip_blocks::",
            "sessions::",
        ];
        let hidden = agencys.iter().any(|module| function.starts_with(module));
        assert_eq!(*count > 0, !hidden, "{function} for tenant 2 itself");
    }
    let before = strangers::fingerprint(&world).await;
    let used = "select coalesce(max(last_used_at)::text, '') from source_credentials where id = 3";
    let last_used = world.texts(used).await;
    let written = write_everything(&pool, &ids).await;
    assert_eq!(written, BTreeSet::from(WRITES));
    assert_eq!(strangers::fingerprint(&world).await, before);
    assert_eq!(world.texts(used).await, last_used);
    // And it is all of them: whatever the API and the operators' orders call.
    let walked: BTreeSet<String> = stranger
        .keys()
        .chain(&written)
        .map(|it| (*it).to_owned())
        .collect();
    assert_eq!(
        called_by_the_api(),
        walked,
        "left: what the API calls; right: what is walked here"
    );
    world.end(Leaves::Contradictions).await;
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("because the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The store's public functions that are called by what answers requests, by module and name.
fn called_by_the_api() -> BTreeSet<String> {
    let ingest = root().join("ingest/src");
    let mut files = rust_files(&ingest.join("api"));
    files.extend(rust_files(&ingest.join("admin")));
    files.extend(rust_files(&ingest.join("pixelhub")));
    files.extend(
        [
            "story.rs",
            "redrive.rs",
            "keys.rs",
            "modules.rs",
            "networks.rs",
        ]
        .map(|name| ingest.join(name)),
    );
    let callers: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("because it was just listed"))
        .collect();
    let mut called = BTreeSet::new();
    for file in rust_files(&root().join("shared/src/store")) {
        let module = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name")
            .to_owned();
        // Its functions are named after the module that shows them.
        let module = if module == "trace_notes" {
            "traces".to_owned()
        } else {
            module
        };
        // The scope and the pool are how one gets at the store.
        if ["scope", "pool", "mod"].contains(&module.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("because it was just listed");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub async fn ") else {
                continue;
            };
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if callers.iter().any(|caller| calls(caller, &module, name)) {
                called.insert(format!("{module}::{name}"));
            }
        }
    }
    called
}

/// Whether a file calls a function of a module of the store, by the name that it gives the module.
fn calls(text: &str, module: &str, name: &str) -> bool {
    let imported = text.contains(&format!("shared::store::{module}::"))
        || text.contains(&format!("shared::store::{module};"))
        || text.lines().any(|line| {
            let words = line.split(|it: char| !(it.is_alphanumeric() || it == '_'));
            line.starts_with("use shared::store::{") && words.into_iter().any(|word| word == module)
        });
    if !imported {
        return false;
    }
    let alias = text
        .split_once(&format!("shared::store::{module}::{{self as "))
        .and_then(|(_, rest)| rest.split([',', '}']).next())
        .unwrap_or(module);
    let called = format!("{alias}::{name}(");
    text.match_indices(&called).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':')
    })
}
