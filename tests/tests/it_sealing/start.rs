//! Who does not start, and what `check-config` says of it.

use clap::{CommandFactory as _, FromArgMatches as _};
use posto_tests::world::{Leaves, Setup, World};

use crate::support::{FALSE_K1, K1, K2};

async fn checked(world: &World, payload_keys: &str) -> String {
    let arguments = [
        "ingest",
        "check-config",
        "--database-url",
        world.database_url(),
        "--amqp-url",
        "amqp://127.0.0.1",
        "--payload-keys",
        payload_keys,
    ];
    let matches = ingest::cli::Cli::command().get_matches_from(arguments);
    let cli =
        ingest::cli::Cli::from_arg_matches(&matches).expect("because they are of its own command");
    let ingest::cli::Command::CheckConfig(args) = cli.command else {
        unreachable!("`check-config` was parsed")
    };
    ingest::commands::check_config(&args, &matches).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_starts_without_the_keys_of_the_database() {
    let mut world = World::start_with(Setup {
        payload_keys: K1.to_owned(),
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await;
    for (payload_keys, wanted) in [
        ("", "PAYLOAD_KEYS does not name it"),
        (K2, "PAYLOAD_KEYS does not name it"),
        (
            FALSE_K1,
            "key k1 of PAYLOAD_KEYS is not the key that the database was sealed with",
        ),
        ("k1:c2hvcnQ=", "not 32 random bytes"),
        ("no list", "PAYLOAD_KEYS is no list"),
    ] {
        for refused in world.refusals_of_keys(payload_keys).await {
            assert!(refused.contains(wanted), "{payload_keys}: {refused}");
        }
        let told = checked(&world, payload_keys).await;
        assert!(told.contains("it would not start"), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
    // Nothing was registered by those that were refused.
    let ids = world.texts("select id from sealing_keys").await;
    assert_eq!(ids, ["k1"]);
    let told = checked(&world, K1).await;
    assert!(!told.contains("it would not start"), "{told}");
    assert!(!told.contains("MDEyMzQ1"), "no key is shown: {told}");
    let both = format!("{K1},{K2}");
    world.restart_with_keys(&both).await.unwrap();
    world.end(Leaves::Nothing).await;
}
