//! Another ingest over a world's database and queues, with settings of its own.

use clap::Parser as _;
use posto_tests::world::{ADMIN_TOKEN, Setup, WEBHOOK_SECRET, World};
use shared::runtime::lifecycle::Lifecycle;
use sqlx::ConnectOptions as _;

/// A world of which the door alone matters.
pub(crate) async fn door_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

/// The world's database, as a process is told it.
pub(crate) fn database_url(world: &World) -> String {
    world.db.connect_options().to_url_lossy().to_string()
}

/// A running ingest.
pub(crate) struct Door {
    lifecycle: Lifecycle,
    pub(crate) public: String,
    ops: String,
}

impl Door {
    pub(crate) async fn open(world: &World, settings: &[&str]) -> Self {
        let database = database_url(world);
        let amqp = std::env::var("AMQP_URL").expect("because ./tests/run sets it");
        let usual = [
            "ingest",
            "run",
            "--public-listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
            "--database-url",
            &database,
            "--database-max-connections",
            "4",
            "--amqp-url",
            &amqp,
            "--amqp-prefix",
            world.prefix(),
            "--gateway-webhook-secret",
            WEBHOOK_SECRET,
            "--admin-token",
            ADMIN_TOKEN,
        ];
        let cli = ingest::cli::Cli::try_parse_from(usual.iter().chain(settings))
            .expect("because these are its arguments");
        let ingest::cli::Command::Run(args) = cli.command else {
            unreachable!("`run` was parsed")
        };
        let lifecycle = Lifecycle::default();
        let app = ingest::app::App::start(*args, &lifecycle)
            .await
            .expect("because its ports are free");
        let public = app.public.expect("because it was asked for");
        let door = Self {
            lifecycle,
            public: format!("http://{public}"),
            ops: format!("http://{}", app.ops),
        };
        // Else what is posted first is left to the sweeper.
        let link = "hub_broker_link_up{role=\"publish\"} ";
        world
            .until("the door has its broker", async |world| {
                door.metric(world, link).await > 0.0
            })
            .await;
        door
    }

    /// A number that it counts, 0 while it has not.
    pub(crate) async fn metric(&self, world: &World, series: &str) -> f64 {
        let request = world.client().get(format!("{}/metrics", self.ops));
        let response = request.send().await.expect("because metrics are served");
        let page = response.text().await.expect("because metrics are text");
        page.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or_default()
    }

    pub(crate) async fn close(self) {
        self.lifecycle
            .stop()
            .await
            .expect("because a clean stop ends in its bound");
    }
}
