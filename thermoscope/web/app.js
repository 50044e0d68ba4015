// The page: a conversation on one side, the step of a chosen token on the other.

import { Answer } from "./answer.js";
import { count, probability, quantity } from "./numbers.js";
import { Scale } from "./scale.js";
import { Settings } from "./settings.js";
import { StepPanel } from "./step.js";
import { complete, health, ServerError } from "./stream.js";
import { name } from "./text.js";

const at = (id) => document.getElementById(id);
const prompt = at("prompt");
const transcript = at("transcript");
const settings = new Settings(at("settings"));
const scale = new Scale(at("scale"));
const panel = new StepPanel(at("step"), (answer, index) => choose(answer, index));

let model = "";
let conversation = []; // what the next request sends: {role, content}
let chosen = null; // the answer whose step is shown
let running = null; // the AbortController of the answer that is coming in

async function ask(text) {
  const turn = question(text);
  const answer = new Answer((index) => choose(answer, index, { focus: true }));
  const control = new AbortController();
  const asked = [...conversation, { role: "user", content: text }];
  begin(control);
  transcript.append(answer.element);
  scrollDown(true);
  let reason = "error";
  try {
    if (!model) await meet();
    for await (const chunk of complete(settings.body(model, asked), control.signal)) {
      const [choice] = chunk.choices;
      if (!choice) continue;
      const stick = atBottom();
      answer.take(choice.delta.content ?? "", choice.thermoscope?.steps ?? []);
      panel.follow(answer);
      scrollDown(stick);
      reason = choice.finish_reason ?? reason;
    }
  } catch (error) {
    if (error.name === "AbortError") {
      reason = "cancelled";
    } else {
      reason = "error";
      refuse(answer, error);
    }
  }
  // New chat may have emptied the transcript meanwhile.
  if (running !== control) return;
  finish(answer, reason);
  if (reason === "error" || (reason === "cancelled" && answer.text === "")) takeBack(turn, answer);
  else conversation = [...asked, { role: "assistant", content: answer.text }];
}

function question(text) {
  at("welcome").hidden = true;
  const turn = document.createElement("article");
  turn.className = "turn question";
  const who = document.createElement("h3");
  who.className = "who";
  who.textContent = "you";
  const body = document.createElement("p");
  body.className = "text";
  body.textContent = text;
  turn.append(who, body);
  transcript.append(turn);
  return turn;
}

function begin(control) {
  running = control;
  at("send").hidden = true;
  at("stop").hidden = false;
  at("status").textContent = "The answer is coming in.";
}

function finish(answer, reason) {
  const stick = atBottom();
  running = null;
  const stopHadFocus = document.activeElement === at("stop");
  at("send").hidden = false;
  at("stop").hidden = true;
  if (stopHadFocus) prompt.focus();
  answer.finish(reason);
  panel.follow(answer);
  if (reason !== "error") at("status").textContent = `Answer finished: ${answer.steps.length} tokens.`;
  scrollDown(stick);
}

/** Leaves a failed turn out of the conversation, and gives the typed text back. */
function takeBack(turn, answer) {
  for (const element of [turn, answer.element]) element.classList.add("dropped");
  if (answer.steps.length === 0) answer.element.remove();
  if (prompt.value === "") prompt.value = turn.querySelector(".text").textContent;
}

/** Shows an error below what there is of the answer. */
function refuse(answer, error) {
  const details = error instanceof ServerError ? error.details : {};
  const box = document.createElement("article");
  box.className = "turn error";
  box.setAttribute("role", "alert");
  const what = document.createElement("p");
  what.className = "what";
  what.textContent = error.message;
  const more = document.createElement("p");
  more.className = "more";
  const facts = Object.entries(details).filter(([, value]) => value !== null && value !== undefined);
  more.textContent = facts.map(([key, value]) => `${key} ${value}`).join(" · ");
  box.append(what, more);
  answer.element.after(box);
  settings.blame(details.param);
  if (!(error instanceof ServerError)) throw error;
}

function choose(answer, index, { focus = false } = {}) {
  if (chosen && chosen !== answer) chosen.mark(null);
  chosen = answer;
  panel.show(answer, index);
  answer.mark(index, { focus });
  const step = answer.steps[index];
  scale.point(-step.logprob);
  at("status").textContent =
    `${name(step)}: probability ${probability(step.logprob)}, surprisal ${quantity(-step.logprob)} nats`;
}

function unchoose() {
  if (!chosen) return;
  chosen.mark(null);
  chosen = null;
  panel.clear();
  scale.point(null);
}

function startAfresh() {
  running?.abort();
  running = null;
  unchoose();
  conversation = [];
  for (const turn of transcript.querySelectorAll(".turn")) turn.remove();
  at("welcome").hidden = false;
  at("send").hidden = false;
  at("stop").hidden = true;
  at("status").textContent = "New chat.";
  prompt.focus();
}

/** Asks the server what it runs. */
async function meet() {
  try {
    const machine = await health();
    model = machine.model;
    at("model").textContent = machine.model;
    at("precision").textContent = machine.precision;
    at("context").textContent = `${count(machine.context)} tokens`;
    at("machine").hidden = false;
    at("offline").hidden = true;
  } catch (error) {
    at("offline").textContent = error.message;
    at("offline").hidden = false;
    throw error;
  }
}

const atBottom = () => transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 48;

function scrollDown(wanted) {
  if (wanted) transcript.scrollTop = transcript.scrollHeight;
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running) return;
  prompt.value = "";
  ask(text);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("composer").requestSubmit();
});
at("stop").addEventListener("click", () => running?.abort());
at("new-chat").addEventListener("click", startAfresh);
at("close").addEventListener("click", unchoose);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") unchoose();
});
at("settings-toggle").addEventListener("click", (event) => {
  const open = at("settings").classList.toggle("open");
  event.currentTarget.setAttribute("aria-expanded", String(open));
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    prompt.value = example.textContent;
    prompt.focus();
  });
}
meet().catch(() => {});
