//! One test per fault: what the caller sees, and what became of the message.

use std::time::{Duration, Instant};

use posto_tests::gateway_sim::{Fault, FaultRule, match_key};
use serde_json::{Value, json};

use crate::receiver::{AURORA, CHANNEL, World, names, rule};

const GOOD: [&str; 4] = ["echo", "ack 1", "ack 2", "ack 3"];

fn error_of(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["success"], false);
    body["error"].as_str().unwrap().to_owned()
}

/// The message left although the answer does not say so: it is listed, echoed and acked.
async fn left_and_told(world: &World) {
    assert_eq!(names(&world.hooks.wait_for(4).await), GOOD);
    assert_eq!(world.went_out(), [true]);
}

/// Nothing left: the next good send is the only one that is told.
async fn stayed(world: &World, listed: &[bool]) {
    assert_eq!(world.went_out(), listed);
    let answer = world.send(AURORA, "a próxima").await;
    assert_eq!(answer.status(), 200, "the fault hits once");
    let next = world.sim.messages().pop().unwrap();
    let events = world.hooks.wait_for(4).await;
    assert_eq!(names(&events), GOOD);
    assert!(events.iter().all(|it| it["message"]["id"] == next.id));
}

#[tokio::test]
async fn timeout_after_send_never_answers_but_the_message_is_read() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::TimeoutAfterSend));
    let request = world.http.post(world.url("/api/messages"));
    let request = request
        .header("x-gateway-secret", crate::receiver::SECRET)
        .timeout(Duration::from_millis(150))
        .json(&crate::receiver::text_body(AURORA, "oi"));
    assert!(request.send().await.unwrap_err().is_timeout());
    left_and_told(&world).await;
}

#[tokio::test]
async fn timeout_before_sends_nothing_and_ends_in_a_reset() {
    let world = World::start().await;
    let rule = rule(Fault::TimeoutBefore).times(1).delayed(30);
    world.sim.set_fault(rule);
    let error = world.try_send(AURORA).await.unwrap_err();
    assert!(error.is_request(), "{error:?}");
    stayed(&world, &[false]).await;
}

#[tokio::test]
async fn html_504_comes_with_and_without_the_message_sent() {
    for (fault, left) in [(Fault::Html504Sent, true), (Fault::Html504NotSent, false)] {
        let world = World::start().await;
        world.sim.set_fault(rule(fault).times(1));
        let answer = world.send(AURORA, "oi").await;
        assert_eq!(answer.status(), 504);
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/html"), "{kind}");
        assert!(answer.text().await.unwrap().starts_with("<html>"));
        if left {
            left_and_told(&world).await;
        } else {
            stayed(&world, &[false]).await;
        }
    }
}

#[tokio::test]
async fn server_errors_come_as_json_and_as_broken_json() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::ServerErrorJson)).await;
    assert_eq!((status, error_of(&body).is_empty()), (500, false));
    let (status, body) = world.send_under(rule(Fault::ServerErrorInvalidJson)).await;
    assert_eq!(status, 500);
    assert!(serde_json::from_str::<Value>(&body).is_err());
    stayed(&world, &[false, false]).await;
}

#[tokio::test]
async fn empty_bodies_come_with_200_and_500() {
    let world = World::start().await;
    let answer = world.send_under(rule(Fault::Empty500)).await;
    assert_eq!(answer, (500, String::new()));
    let answer = world.send_under(rule(Fault::Empty200)).await;
    assert_eq!(answer, (200, String::new()));
    world.hooks.wait_for(4).await;
    assert_eq!(world.went_out(), [false, true]);
}

#[tokio::test]
async fn success_false_says_200_and_sends_nothing() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::SuccessFalse)).await;
    assert_eq!((status, error_of(&body).is_empty()), (200, false));
    stayed(&world, &[false]).await;
}

#[tokio::test]
async fn accepted_not_sent_is_a_lie_that_nothing_follows() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::AcceptedNotSent)).await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["success"], true);
    assert!(body["correlationId"].is_string());
    stayed(&world, &[false]).await;
}

#[tokio::test]
async fn refusals_have_their_own_words_and_list_nothing() {
    for (fault, status, text) in [
        (
            Fault::SessionInactive,
            404,
            "A sessão do WhatsApp não está ativa.",
        ),
        (
            Fault::SessionNotStarted,
            404,
            "Session not started. Please, use the /start-session route",
        ),
        (Fault::ChannelNotFound, 404, "Canal não encontrado"),
        (Fault::RouteNotFound, 404, "Route not found"),
        (Fault::UnauthorizedJson, 401, "Unauthorized"),
        (Fault::Forbidden, 403, "Forbidden"),
        (
            Fault::InvalidBase64,
            400,
            "Invalid or empty base64 image data",
        ),
    ] {
        let world = World::start().await;
        let (got, body) = world.send_under(rule(fault)).await;
        assert_eq!((got, error_of(&body).as_str()), (status, text));
        stayed(&world, &[]).await;
    }
}

#[tokio::test]
async fn basic_auth_of_the_proxy_looks_unlike_a_wrong_secret() {
    let world = World::start().await;
    world
        .sim
        .set_fault(rule(Fault::UnauthorizedBasicHtml).times(1));
    let answer = world.send(AURORA, "oi").await;
    assert_eq!(answer.status(), 401);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Basic"));
    assert!(answer.text().await.unwrap().contains("nginx"));
    stayed(&world, &[]).await;
}

#[tokio::test]
async fn rate_limits_name_seconds_a_date_or_nonsense() {
    let world = World::start().await;
    for (asked, is_right) in [
        (json!(7), (|it| it == "7") as fn(&str) -> bool),
        (json!("date:+3"), |it| {
            chrono::DateTime::parse_from_rfc2822(it).is_ok()
        }),
        (json!("logo mais"), |it| it == "logo mais"),
    ] {
        let mut limited = rule(Fault::RateLimited).times(1);
        limited.retry_after = Some(asked);
        world.sim.set_fault(limited);
        let answer = world.send(AURORA, "oi").await;
        assert_eq!(answer.status(), 429);
        let value = answer.headers()["retry-after"].to_str().unwrap();
        assert!(is_right(value), "{value}");
    }
    stayed(&world, &[]).await;
}

#[tokio::test]
async fn does_not_exist_is_said_of_the_delivered_and_of_the_rest() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::NotExists)).await;
    assert_eq!(status, 400);
    assert_eq!(error_of(&body), format!("O número {AURORA} não existe."));
    let (status, body) = world.send_under(rule(Fault::NotExistsDelivered)).await;
    assert_eq!(status, 500);
    let text = error_of(&body);
    assert!(text.contains("não existe") && text.starts_with("WPPConnect"));
    assert_eq!(names(&world.hooks.wait_for(4).await), GOOD);
    assert_eq!(world.went_out(), [false, true]);
}

#[tokio::test]
async fn wppconnect_timeout_leaves_the_message_on_its_way() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::WppconnectTimeout)).await;
    assert_eq!(status, 500);
    assert!(error_of(&body).contains("30000ms"));
    left_and_told(&world).await;
}

#[tokio::test]
async fn resets_come_before_and_after_the_message_left() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::ResetBefore).times(1));
    let error = world.try_send(AURORA).await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert!(world.went_out().is_empty());

    world.sim.set_fault(rule(Fault::ResetAfterSend).times(1));
    let error = world.try_send(AURORA).await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    left_and_told(&world).await;
}

#[tokio::test]
async fn a_reset_is_a_real_one_on_the_wire() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::ResetAfterSend));
    let mut stream = tokio::net::TcpStream::connect(world.sim.addr())
        .await
        .unwrap();
    let body = crate::receiver::text_body(AURORA, "oi").to_string();
    let request = format!(
        "POST /api/messages HTTP/1.1\r\nhost: x\r\nx-gateway-secret: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        crate::receiver::SECRET,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let error = stream.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_answer_breaks_off_in_its_body() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::CutAnswer).times(1));
    let answer = world.send(AURORA, "oi").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err());
    left_and_told(&world).await;
}

#[tokio::test]
async fn audio_conversion_fails_with_code_origin_and_reason() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::AudioConvertFailed)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 500);
    assert_eq!(body["error_code"], "AUDIO_CONVERT_FAILED");
    assert_eq!(body["origin"], "gateway");
    stayed(&world, &[]).await;
}

#[tokio::test]
async fn the_error_may_be_an_object() {
    let world = World::start().await;
    let (status, body) = world.send_under(rule(Fault::ErrorObject)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 500);
    assert!(body["error"]["message"].is_string());
    stayed(&world, &[false]).await;
}

#[tokio::test]
async fn the_error_text_hides_in_any_of_five_members() {
    let world = World::start().await;
    for field in ["error", "message", "error_message", "details", "data.error"] {
        let mut hidden = rule(Fault::ErrorInField);
        hidden.field = Some(field.to_owned());
        hidden.error = Some(json!("motivo"));
        hidden.status = Some(422);
        let (status, body) = world.send_under(hidden).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let pointer = format!("/{}", field.replace('.', "/"));
        assert_eq!(body.pointer(&pointer), Some(&json!("motivo")), "{field}");
        assert_eq!(status, 422);
    }
    stayed(&world, &[false; 5]).await;
}

#[tokio::test]
async fn answers_without_any_id_and_with_the_message_id() {
    let world = World::start().await;
    let (_, body) = world.send_under(rule(Fault::NoIdInAnswer)).await;
    assert_eq!(body, r#"{"success":true}"#);
    let (_, body) = world.send_under(rule(Fault::MessageIdInAnswer)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["messageId"], world.sim.messages()[1].id);
    world.hooks.wait_for(8).await;
    assert_eq!(world.went_out(), [true, true]);
}

#[tokio::test]
async fn webhook_faults_change_the_story_and_not_the_answer() {
    for (fault, story, went_out) in [
        (Fault::NoEcho, &GOOD[1..], true),
        (Fault::NoAcks, &GOOD[..1], true),
        (Fault::OnlyAck1, &GOOD[..2], true),
        (Fault::AckFailed, &["echo", "ack -1"], false),
        (
            Fault::DuplicatedWebhooks,
            &[
                "echo", "echo", "ack 1", "ack 1", "ack 2", "ack 2", "ack 3", "ack 3",
            ],
            true,
        ),
        (
            Fault::ShuffledWebhooks,
            &["ack 3", "ack 2", "ack 1", "echo"],
            true,
        ),
    ] {
        let world = World::start().await;
        let (status, _) = world.send_under(rule(fault)).await;
        assert_eq!(status, 200);
        world.send(AURORA, "a próxima").await;
        let events = world.hooks.wait_for(story.len() + 4).await;
        let messages = world.sim.messages();
        let (hit, other): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|event| event["message"]["id"] == messages[0].id);
        assert_eq!(names(&hit), story, "{fault:?}");
        assert_eq!(names(&other), GOOD, "{fault:?} hits once");
        assert_eq!(world.went_out(), [went_out, true]);
        assert_eq!(messages[0].faults, [fault]);
    }
}

#[tokio::test]
async fn a_duplicate_has_its_own_event_id() {
    let world = World::start().await;
    world.send_under(rule(Fault::DuplicatedWebhooks)).await;
    let events = world.hooks.wait_for(8).await;
    assert_eq!(events[0]["message"]["id"], events[1]["message"]["id"]);
    assert_ne!(events[0]["event_id"], events[1]["event_id"]);
}

#[tokio::test]
async fn acks_before_response_are_all_there_when_the_answer_comes() {
    let world = World::start().await;
    let (status, _) = world.send_under(rule(Fault::AcksBeforeResponse)).await;
    assert_eq!(status, 200);
    assert_eq!(names(&world.hooks.events()), GOOD);
}

#[tokio::test]
async fn late_webhooks_and_slow_answers_take_the_time_they_are_told() {
    let world = World::start().await;
    let begun = Instant::now();
    let rule_late = rule(Fault::LateWebhooks).delayed(200);
    world.send_under(rule_late).await;
    world.hooks.wait_for(1).await;
    assert!(begun.elapsed() >= Duration::from_millis(220));

    let begun = Instant::now();
    let (status, _) = world.send_under(rule(Fault::SlowAnswer).delayed(300)).await;
    assert_eq!(status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    world.hooks.wait_for(8).await;
}

#[tokio::test]
async fn the_qr_code_fails_on_demand() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::QrFailed).times(1));
    let path = "/api/channels/Pixel12%20Digital/qr";
    let answer = world.get(path).await;
    assert_eq!(answer.status(), 500);
    assert!(error_of(&answer.text().await.unwrap()).contains("getQRCode failed"));
    assert_eq!(world.json(path).await["status"], "CONNECTED");
    assert_eq!(world.send(AURORA, "oi").await.status(), 200);
}

#[tokio::test]
async fn a_rule_hits_its_recipients_its_channel_and_its_number_of_calls() {
    let world = World::start().await;
    let armed = world
        .post(
            "/_sim/faults",
            json!([
                { "fault": "success_false", "to": ["554799900011"], "calls": 2 },
                { "fault": "forbidden", "channel": "Outro" },
            ]),
        )
        .await;
    assert_eq!(armed.status(), 201);
    let body = |answer: reqwest::Response| async { answer.text().await.unwrap() };
    assert!(
        !body(world.send("5511988880022", "oi").await)
            .await
            .contains("false")
    );
    for expected in ["false", "false", "true"] {
        let answer = body(world.send(AURORA, "oi").await).await;
        assert!(
            answer.contains(&format!("\"success\":{expected}")),
            "{answer}"
        );
    }
    let shown = world.json("/_sim/faults").await;
    assert_eq!(shown["faults"][0]["hits"], 2);
    assert_eq!(shown["faults"][1]["hits"], 0);
    let removed = world.http.delete(world.url("/_sim/faults")).send().await;
    assert!(removed.unwrap().status().is_success());
    assert_eq!(world.json("/_sim/faults").await["faults"], json!([]));
}

#[tokio::test]
async fn a_rule_may_override_whether_the_message_leaves() {
    let world = World::start().await;
    let mut inactive = rule(Fault::SessionInactive);
    inactive.went_out = Some(true);
    let (status, _) = world.send_under(inactive).await;
    assert_eq!(status, 404);
    left_and_told(&world).await;
}

#[tokio::test]
async fn an_answer_fault_and_a_webhook_fault_work_together() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::NoEcho).times(1));
    world.sim.set_fault(rule(Fault::SuccessFalse).times(1));
    assert_eq!(world.send(AURORA, "fica").await.status(), 200);
    let (status, _) = world.send_under(rule(Fault::Html504Sent)).await;
    assert_eq!(status, 504);
    let events = world.hooks.wait_for(3).await;
    assert_eq!(
        names(&events),
        GOOD[1..],
        "the send that stayed spent no no_echo"
    );
}

#[tokio::test]
async fn a_mistake_in_a_rule_is_told() {
    let world = World::start().await;
    for wrong in [
        json!({ "fault": "explode" }),
        json!({ "fault": "forbidden", "too": ["55"] }),
        json!("forbidden"),
    ] {
        let answer = world.post("/_sim/faults", wrong).await;
        assert_eq!(answer.status(), 422);
        let answer: Value = answer.json().await.unwrap();
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    assert_eq!(world.json("/_sim/faults").await["faults"], json!([]));
}

#[tokio::test]
async fn every_fault_is_in_the_manual_with_its_fact() {
    let manual = include_str!("../../../docs/gateway-simulator.md");
    for fault in Fault::ALL {
        let row = manual
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", fault.name())))
            .unwrap_or_else(|| panic!("{} is not in the manual", fault.name()));
        assert!(row.contains(fault.fact()), "{row}");
    }
}

#[test]
fn a_fault_is_named_on_the_wire_as_in_the_catalogue() {
    for fault in Fault::ALL {
        let wire = serde_json::to_value(FaultRule::new(*fault)).unwrap();
        assert_eq!(wire["fault"], fault.name());
    }
    assert_eq!(match_key(AURORA), "554799900011");
    assert_eq!(CHANNEL, "Pixel12 Digital");
}
