//! Each listener serves a description of itself, and a page to read it; what is described is what
//! is there.

use std::collections::BTreeSet;

use posto_tests::world::http::answer;
use posto_tests::world::{Leaves, Setup, World};
use reqwest::Method;

async fn doors_only() -> World {
    World::start_with(Setup {
        router: false,
        delivery: false,
        ..Setup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_methods_that_are_described_are_those_that_are_taken() {
    let world = doors_only().await;
    let admin = world.admin_url().trim_end_matches('/').to_owned();
    for base in [world.api().to_owned(), admin] {
        // Also without any credential: it tells nothing of what is stored.
        let document = answer(world.client().get(format!("{base}/openapi.json"))).await;
        assert_eq!(
            (document.status, document.body["openapi"].as_str()),
            (200, Some("3.1.0"))
        );
        let paths = document.body["paths"].as_object().unwrap();
        assert!(paths.len() > 5, "{base}");
        for (path, item) in paths {
            let described: BTreeSet<String> = item.as_object().unwrap().keys().cloned().collect();
            let id = "01a20a64-debf-705f-9759-e205aefbb986";
            let filled = path
                .split('/')
                .map(|part| if part.starts_with('{') { id } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let request = world
                .client()
                .request(
                    Method::from_bytes(b"PROPFIND").unwrap(),
                    format!("{base}{filled}"),
                )
                .bearer_auth(posto_tests::world::ADMIN_TOKEN);
            let refused = answer(request).await;
            assert_eq!(
                (refused.status, &*refused.text("/code")),
                (405, "method_not_allowed"),
                "{path}"
            );
            let allow = refused.headers.get("allow").unwrap().to_str().unwrap();
            // Where there is a GET, HTTP has a HEAD.
            let taken: BTreeSet<String> = allow
                .split(',')
                .map(|method| method.trim().to_ascii_lowercase())
                .filter(|method| method != "head")
                .collect();
            assert_eq!(taken, described, "{path}");
        }
    }
    world.end(Leaves::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_whole_and_may_ask_for_nothing_but_the_document() {
    let world = doors_only().await;
    let admin = world.admin_url().trim_end_matches('/').to_owned();
    for base in [world.api().to_owned(), admin] {
        let page = world
            .client()
            .get(format!("{base}/docs"))
            .send()
            .await
            .unwrap();
        assert_eq!(page.status(), 200);
        let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; connect-src 'self';"),
            "{policy}"
        );
        let text = page.text().await.unwrap();
        assert!(text.contains("data-document=\"/openapi.json\""));
    }
    // The description is free to read; what it describes is not.
    let shut = answer(
        world
            .client()
            .get(format!("{}/admin/keys", world.admin_url())),
    )
    .await;
    assert_eq!(shut.status, 401);
    world.end(Leaves::Nothing).await;
}
