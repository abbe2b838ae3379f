//! Files that the gateway puts into its messages.

use posto_tests::world::{Leaves, World};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::sealing::Keyring;
use shared::store::media;

const VOICE: &str = include_str!(
    "../../../shared/src/source/fixtures/wpp_gateway/message-audio-base64-in-text.json"
);
const PICTURE: &str = include_str!(
    "../../../shared/src/source/fixtures/wpp_gateway/08_wpp_image_thumbnail_in_text_with_caption.json"
);

async fn until_told(world: &World, messages: i64) {
    world
        .until("the messages are on their threads", async |world| {
            world.count("select count(*) from chat_messages").await == messages
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_kept_once_by_its_hash_and_its_event_and_message_refer_to_it() {
    let world = World::start().await;
    for body in [VOICE, PICTURE, VOICE, PICTURE] {
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(world.post_webhook(&body).await.status, 200);
    }
    // The same file in another message.
    let mut again: Value = serde_json::from_str(VOICE).unwrap();
    again["message"]["id"] = json!("ABC124");
    world.post_webhook(&again).await;
    until_told(&world, 3).await;

    let kept = world
        .texts("select concat_ws('|', encode(sha256, 'hex'), mime, size_bytes) from media order by mime")
        .await;
    let voice = b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let hash = hex_of(voice);
    assert_eq!(kept[0], format!("{hash}|audio/ogg|23"));
    assert!(kept[1].contains("|image/jpeg|"), "{kept:?}");
    assert_eq!(kept.len(), 2);
    let found = media::find(
        &mut world.db.acquire().await.unwrap(),
        &Sha256::digest(voice),
        &Keyring::off(),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(
        (found.bytes.as_slice(), found.mime.as_str()),
        (&voice[..], "audio/ogg")
    );

    let inside = "select count(*) from communication_events
        where payload::text ~ 'T2dnUw|/9j/' or convert_from(body, 'utf8') ~ 'T2dnUw|/9j/'";
    assert_eq!(world.count(inside).await, 0);
    let told = world
        .texts("select metadata ->> 'body_sha256' from communication_events where metadata ? 'body_sha256' order by id limit 1")
        .await;
    // `post_webhook` writes the JSON anew, so that what came is that.
    let sent: Value = serde_json::from_str(VOICE).unwrap();
    assert_eq!(told, [hex_of(sent.to_string().as_bytes())]);
    let mut messages = world
        .texts("select concat_ws('|', content, metadata -> 'media' ->> 'state', metadata -> 'media' ->> 'sha256',
                    metadata -> 'media' ->> 'thumbnail_sha256' is not null)
                from chat_messages order by 1")
        .await;
    messages.sort();
    let stored = format!("|stored|{hash}|f");
    // `|` sorts behind letters.
    assert_eq!(
        messages,
        [
            "segue o comprovante|pending|t",
            stored.as_str(),
            stored.as_str()
        ]
    );
    world.end(Leaves::Nothing).await;
}

fn hex_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_24_mib_comes_through_this_door_and_one_of_26_does_not() {
    let world = World::start().await;
    let message = |id: &str, mib: usize| {
        let file = format!(
            "T2dnUwAC{}",
            "Abcd0123EfghIjklMnopQrst".repeat((mib << 20) / 24)
        );
        json!({"event": "message", "channel": "pixel12digital", "from": "5547999900011",
            "message": {"id": id, "from": "5547999900011", "text": file, "timestamp": 1_770_300_960}})
    };
    assert_eq!(world.post_webhook(&message("large", 24)).await.status, 200);
    assert_eq!(world.post_webhook(&message("larger", 26)).await.status, 413);
    until_told(&world, 1).await;
    let sizes = "select count(*) from media where size_bytes > 18 * 1024 * 1024";
    assert_eq!(world.count(sizes).await, 1);
    let light = "select count(*) from communication_events where octet_length(body) < 2000";
    assert_eq!(world.count(light).await, 1);
    world.end(Leaves::Nothing).await;
}
