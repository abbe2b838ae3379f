//! What survives the simulator's own end, clean or not.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use posto_tests::gateway_sim::{Fault, GatewaySim, SimConfig};
use serde_json::{Value, json};

use crate::receiver::{AURORA, CHANNEL, Receiver, SECRET, World, names, rule, text_body, until};

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("gateway-sim-{}", uuid::Uuid::new_v4()));
        Self(path)
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.0.join("messages.jsonl")).unwrap_or_default()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn messages_registration_and_sessions_survive_a_restart() {
    let dir = Dir::new();
    let world = World::with(|config| {
        config.data = Some(dir.0.clone());
        config.webhook_url = None;
    })
    .await;
    world
        .post("/api/webhooks", json!({ "url": world.hooks.url }))
        .await;
    world.send(AURORA, "um").await;
    world.send(AURORA, "dois").await;
    world.hooks.wait_for(8).await;
    until(|| world.sim.webhook_stats().waiting == 0).await;
    let drop = json!({ "channel": CHANNEL, "state": "drop", "silent": true });
    world.post("/_sim/session", drop).await;
    let before = world.json("/_sim/messages").await;
    let World { sim, hooks, http } = world;
    sim.stop().await;

    let mut config = SimConfig::for_tests(SECRET);
    config.data = Some(dir.0.clone());
    let sim = GatewaySim::start(config).await.unwrap();
    let world = World { sim, hooks, http };
    assert_eq!(world.json("/_sim/messages").await, before);
    assert_eq!(world.send(AURORA, "três").await.status(), 404);
    let back = json!({ "channel": CHANNEL, "state": "return", "silent": true });
    world.post("/_sim/session", back).await;
    world.send(AURORA, "três").await;
    let events = world.hooks.wait_for(12).await;
    assert_eq!(names(&events[8..]), ["echo", "ack 1", "ack 2", "ack 3"]);
    world.post("/_sim/reset", json!({})).await;
    world.sim.stop().await;
    assert_eq!(dir.journal(), "");
}

#[tokio::test]
async fn webhooks_that_a_stop_cut_short_are_taken_up_again() {
    let dir = Dir::new();
    let world = World::with(|config| config.data = Some(dir.0.clone())).await;
    world
        .sim
        .set_fault(rule(Fault::LateWebhooks).delayed(60_000));
    world.send(AURORA, "oi").await;
    let World { sim, hooks, .. } = world;
    sim.stop().await;
    let mut config = SimConfig::for_tests(SECRET);
    config.data = Some(dir.0.clone());
    config.webhook_url = Some(hooks.url.clone());
    let _sim = GatewaySim::start(config).await.unwrap();
    let events = hooks.wait_for(4).await;
    assert_eq!(names(&events), ["echo", "ack 1", "ack 2", "ack 3"]);
}

#[tokio::test]
async fn half_a_line_at_the_end_of_the_journal_costs_only_itself() {
    let dir = Dir::new();
    let world = World::with(|config| config.data = Some(dir.0.clone())).await;
    world.send(AURORA, "um").await;
    world.sim.stop().await;
    let journal = dir.0.join("messages.jsonl");
    let mut text = dir.journal();
    text.push_str("{\"id\":\"true_5547");
    std::fs::write(&journal, text).unwrap();

    let world = World::with(|config| config.data = Some(dir.0.clone())).await;
    world.send(AURORA, "dois").await;
    world.sim.stop().await;
    let world = World::with(|config| config.data = Some(dir.0.clone())).await;
    let texts: Vec<_> = world.sim.messages().into_iter().map(|it| it.text).collect();
    assert_eq!(texts, ["um", "dois"]);
}

/// The binary, as `deploy/up` starts it; killed at the end of the test.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(dir: &Dir, hooks: &Receiver) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway-sim"))
            .env("SIM_LISTEN", "127.0.0.1:0")
            .env("SIM_DATA", &dir.0)
            .env("WPP_GATEWAY_SECRET", SECRET)
            .env("SIM_WEBHOOK_URL", &hooks.url)
            .env("SIM_SESSIONS", "Pixel12 Digital, ImobSites")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        let addr = started["fields"]["listen"].as_str().unwrap();
        Self {
            url: format!("http://{addr}"),
            child,
        }
    }

    async fn send(&self, text: &str) -> u16 {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("{}/api/messages", self.url));
        let request = request.header("x-gateway-secret", SECRET);
        let answer = request.json(&text_body(AURORA, text)).send().await.unwrap();
        answer.status().as_u16()
    }

    async fn messages(&self) -> Vec<Value> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let list = http.get(format!("{}/_sim/messages", self.url)).send().await;
        list.unwrap().json().await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_binary_keeps_its_messages_over_kill_9_and_ends_cleanly_on_sigterm() {
    let dir = Dir::new();
    let hooks = Receiver::start().await;
    // Gives this process a crypto provider, which the clients below need.
    let _provider = GatewaySim::start(SimConfig::for_tests(SECRET))
        .await
        .unwrap();
    let mut process = Process::start(&dir, &hooks);
    assert_eq!(process.send("um").await, 200);
    until(|| dir.journal().contains("\"text\":\"um\"")).await;
    process.child.kill().unwrap();
    process.child.wait().unwrap();

    let mut process = Process::start(&dir, &hooks);
    assert_eq!(process.messages().await[0]["text"], "um");
    assert_eq!(process.send("dois").await, 200);
    let pid = process.child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let ended = tokio::task::spawn_blocking(move || process.child.wait().unwrap());
    assert!(ended.await.unwrap().success());

    let process = Process::start(&dir, &hooks);
    assert_eq!(process.messages().await.len(), 2);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer_that_is_held_back() {
    let world = World::start().await;
    world.sim.set_fault(rule(Fault::TimeoutAfterSend));
    let request = world.http.post(world.url("/api/messages"));
    let request = request
        .header("x-gateway-secret", SECRET)
        .json(&text_body(AURORA, "oi"));
    let held = tokio::spawn(request.send());
    world.hooks.wait_for(1).await;
    world.sim.stop().await;
    assert!(held.await.unwrap().is_err(), "it ends in a reset");
}
