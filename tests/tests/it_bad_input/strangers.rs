//! Callers that nobody knows: an answer, a number on a metric, and nothing else.

use clap::Parser as _;
use posto_tests::world::http::{Answer, answer};
use posto_tests::world::{
    ADMIN_TOKEN, BILLING_TOKEN, Leaves, Setup, WEBHOOK_SECRET, World, overdue,
};
use shared::runtime::lifecycle::Lifecycle;
use sqlx::ConnectOptions as _;

use crate::assert_problem;

/// Another ingest over the world's database and queues, with one of its listeners; unlike the
/// world's own, its metrics can be read.
struct Door {
    lifecycle: Lifecycle,
    address: String,
    ops: String,
}

impl Door {
    async fn open(world: &World, listener: &str) -> Self {
        let database = world.db.connect_options().to_url_lossy().to_string();
        let amqp = std::env::var("AMQP_URL").expect("because ./tests/run sets it");
        let cli = ingest::cli::Cli::try_parse_from([
            "ingest",
            "run",
            "--listeners",
            listener,
            "--public-listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
            "--database-url",
            &database,
            "--database-max-connections",
            "2",
            "--amqp-url",
            &amqp,
            "--amqp-prefix",
            world.prefix(),
            "--gateway-webhook-secret",
            WEBHOOK_SECRET,
            "--admin-token",
            ADMIN_TOKEN,
        ])
        .expect("because these are its arguments");
        let ingest::cli::Command::Run(args) = cli.command else {
            unreachable!("`run` was parsed")
        };
        let lifecycle = Lifecycle::default();
        let app = ingest::app::App::start(*args, &lifecycle)
            .await
            .expect("because its ports are free");
        let (open, shut) = match listener {
            "public" => (app.public, app.admin),
            _ => (app.admin, app.public),
        };
        assert_eq!(shut, None, "the other listener stays away");
        let address = open.expect("because it was asked for");
        Self {
            lifecycle,
            address: format!("http://{address}"),
            ops: format!("http://{}", app.ops),
        }
    }

    /// How many requests a door refused with a code.
    async fn refused(&self, world: &World, door: &str, code: &str) -> u64 {
        let request = world.client().get(format!("{}/metrics", self.ops));
        let response = request.send().await.expect("because metrics are served");
        let text = response.text().await.expect("because metrics are text");
        let name = format!("hub_requests_refused_total{{code=\"{code}\",door=\"{door}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&name)?.parse().ok())
            .unwrap_or_default()
    }

    async fn close(self) {
        self.lifecycle
            .stop()
            .await
            .expect("because a clean stop ends in its bound");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_leaves_only_a_metric() {
    let world = World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await;
    let door = Door::open(&world, "public").await;
    let credentials = [
        None,
        Some(("authorization", "")),
        Some(("authorization", "Bearer ")),
        Some(("authorization", "Bearer wrong")),
        Some(("authorization", "Basic YmlsbGluZzp3cm9uZw==")),
        Some(("authorization", ADMIN_TOKEN)),
        Some(("authorization", WEBHOOK_SECRET)),
        Some(("x-event-secret", "wrong")),
        Some(("x-event-secret", "Bearer wrong")),
    ];
    let with =
        |request: reqwest::RequestBuilder, credential: &Option<(&str, &str)>| match credential {
            Some((name, value)) => request.header(*name, *value),
            None => request,
        };
    for credential in &credentials {
        let what = format!("{credential:?}");
        let post = world
            .client()
            .post(format!("{}/api/events", door.address))
            .json(&overdue("stranger"));
        let refused: Answer = answer(with(post, credential)).await;
        assert_problem(&what, &refused, 401, "unauthenticated");
        assert!(
            refused.headers.contains_key("www-authenticate"),
            "{what} is told how"
        );
        let id = uuid::Uuid::new_v4();
        let get = world
            .client()
            .get(format!("{}/api/events/{id}", door.address));
        assert_problem(
            &what,
            &answer(with(get, credential)).await,
            401,
            "unauthenticated",
        );
    }
    assert_eq!(
        door.refused(&world, "events", "unauthenticated").await,
        2 * credentials.len() as u64
    );

    let webhooks = [None, Some(""), Some("wrong"), Some(BILLING_TOKEN)];
    for secret in webhooks {
        let mut post = world
            .client()
            .post(format!("{}/api/whatsapp/webhook", door.address))
            .body("not even JSON");
        if let Some(secret) = secret {
            post = post.header("x-webhook-secret", secret);
        }
        assert_problem(
            &format!("{secret:?}"),
            &answer(post).await,
            401,
            "unauthenticated",
        );
    }
    assert_eq!(
        door.refused(&world, "wpp_gateway", "unauthenticated").await,
        webhooks.len() as u64
    );

    let admin = Door::open(&world, "admin").await;
    for token in ["", "wrong", BILLING_TOKEN] {
        let path = "admin/traces/0af7651916cd43dd8448eb211c80319c";
        let request = world
            .client()
            .get(format!("{}/{path}", admin.address))
            .bearer_auth(token);
        assert_problem(token, &answer(request).await, 401, "unauthenticated");
    }
    for table in [
        "communication_events",
        "communication_logs",
        "idempotency_keys",
    ] {
        let rows = world.count(&format!("select count(*) from {table}")).await;
        assert_eq!(rows, 0, "a stranger leaves nothing in {table}");
    }
    door.close().await;
    admin.close().await;
    world.end(Leaves::Nothing).await;
}
