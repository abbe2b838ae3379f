"use strict";
(function () {
  const token = new URLSearchParams(location.search).get("token");
  const thread = document.body.dataset.thread;
  const list = document.getElementById("messages");
  const form = document.getElementById("write");
  const text = document.getElementById("text");
  const trouble = document.getElementById("trouble");
  const headers = { "Accept": "application/json", "X-Order-Token": token || "" };
  let last = Number(document.body.dataset.last);
  // A message keeps its key while it is tried again, so that it is written once.
  let key = null;

  function tell(words) {
    trouble.textContent = words;
    trouble.hidden = !words;
  }

  function when(time) {
    const at = new Date(time.dateTime);
    time.textContent = at.toLocaleString("pt-BR", { dateStyle: "short", timeStyle: "short" });
  }

  function show(side, words, at, event) {
    const item = document.createElement("li");
    item.className = side;
    if (event) item.dataset.event = event;
    const line = document.createElement("p");
    line.textContent = words;
    item.append(line);
    if (at) {
      const time = document.createElement("time");
      time.dateTime = at;
      when(time);
      item.append(time);
    }
    list.append(item);
    item.scrollIntoView({ block: "end" });
    return item;
  }

  function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, function (byte) { return byte.toString(16).padStart(2, "0"); }).join("");
  }

  function isShown(event) {
    return list.querySelector('[data-event="' + CSS.escape(event) + '"]') !== null;
  }

  async function look() {
    const address = "/chat/messages?thread_id=" + thread + "&after=" + last;
    const answer = await fetch(last ? address : "/chat/messages?thread_id=" + thread, { headers: headers });
    if (!answer.ok) return;
    for (const message of (await answer.json()).messages) {
      last = Math.max(last, message.id);
      if (!isShown(message.event_id)) {
        show(message.role === "user" ? "user" : "team", message.content, message.created_at, message.event_id);
      }
    }
  }

  async function send() {
    const words = text.value.trim();
    if (!words) return;
    key = key || newKey();
    const answer = await fetch("/chat/message", {
      method: "POST",
      headers: Object.assign({ "Content-Type": "application/json", "Idempotency-Key": key }, headers),
      body: JSON.stringify({ thread_id: Number(thread), message: words })
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const told = (await answer.json()).message;
    key = null;
    text.value = "";
    if (!isShown(told.id)) show("user", words, told.created_at, told.id);
    list.querySelectorAll("li.note").forEach(function (note) { note.remove(); });
    show("note", told.content);
  }

  document.querySelectorAll("time").forEach(when);
  if (!token) return;
  text.addEventListener("input", function () { key = null; });
  form.addEventListener("submit", async function (submitted) {
    submitted.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await send();
      tell("");
    } catch (problem) {
      tell("A mensagem não foi enviada. Tente de novo em instantes.");
    } finally {
      button.disabled = false;
    }
  });
  setInterval(function () {
    if (!document.hidden) look().catch(function () {});
  }, 5000);
})();
