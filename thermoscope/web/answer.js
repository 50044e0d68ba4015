// One answer in the transcript: its text, cut into tokens that can be chosen.

import { quantity } from "./numbers.js";
import { heat } from "./scale.js";

const REASONS = { stop: "ended by itself", length: "reached max_tokens", cancelled: "stopped", error: "broke off" };

/**
 * The text that is shown is the join of every `delta.content`; the steps only say where its tokens lie.
 * So a token that the server holds back, or that a stop string takes back, shows no text.
 */
export class Answer {
  steps = [];
  text = "";
  element = document.createElement("article");
  #spans = [];
  #starts = [];
  #length = 0; // of all steps' texts, which may run ahead of the text
  #settled = 0; // tokens before this one show all of their text
  #tokens = document.createElement("span");
  #tail = document.createElement("span");
  #facts = document.createElement("p");

  constructor(choose) {
    this.element.className = "turn answer streaming";
    const who = document.createElement("h3");
    who.className = "who";
    who.textContent = "model";
    const body = document.createElement("div");
    body.className = "text";
    this.#tokens.className = "tokens";
    this.#tokens.setAttribute("role", "listbox");
    this.#tokens.setAttribute("aria-orientation", "horizontal");
    this.#tokens.setAttribute("aria-label", "Answer, token by token");
    this.#tail.className = "tail";
    this.#facts.className = "facts";
    body.append(this.#tokens, this.#tail);
    this.element.append(who, body, this.#facts);
    this.#tokens.addEventListener("click", (event) => {
      const span = event.target.closest(".token");
      if (span) choose(this.#spans.indexOf(span));
    });
    this.#tokens.addEventListener("keydown", (event) => this.#key(event, choose));
  }

  /** Takes one chunk: visible text, and the steps that were drawn meanwhile. */
  take(content, steps) {
    this.text += content;
    for (const step of steps) this.#append(step);
    while (this.#settled < this.steps.length && this.#reveal(this.#settled)) this.#settled += 1;
    this.#tail.textContent = this.text.slice(this.#length);
  }

  /** Ends the answer: "stop", "length", "cancelled" or "error". */
  finish(reason) {
    this.element.classList.remove("streaming");
    for (let index = this.#settled; index < this.steps.length; index += 1) {
      this.#spans[index].hidden = false;
      this.#spans[index].classList.add("taken-back");
    }
    const surprisal = this.steps.reduce((sum, step) => sum - step.logprob, 0) / this.steps.length;
    const later = this.steps.slice(1).reduce((sum, step) => sum + step.ms, 0);
    const parts = [`${this.steps.length} token${this.steps.length === 1 ? "" : "s"}`];
    if (later > 0) parts.push(`${((this.steps.length - 1) / (later / 1000)).toFixed(0)} tokens/s`);
    if (this.steps.length) parts.push(`mean surprisal ${quantity(surprisal)} nats`);
    parts.push(REASONS[reason] ?? reason);
    this.#facts.textContent = parts.join(" · ");
  }

  /** Whether a stop string took back this token's text, or part of it. */
  takenBack(index) {
    return this.#spans[index].classList.contains("taken-back");
  }

  /** Marks a token and gives it the focus; null unmarks. */
  mark(index, { focus = false } = {}) {
    for (const span of this.#tokens.querySelectorAll("[aria-selected=true]")) {
      span.setAttribute("aria-selected", "false");
    }
    if (index === null) return;
    for (const span of this.#tokens.querySelectorAll("[tabindex='0']")) span.tabIndex = -1;
    const span = this.#spans[index];
    span.setAttribute("aria-selected", "true");
    span.tabIndex = 0;
    if (focus) span.focus();
    span.scrollIntoView({ block: "nearest" });
  }

  #append(step) {
    const span = document.createElement("span");
    span.className = "token";
    span.setAttribute("role", "option");
    span.setAttribute("aria-selected", "false");
    span.tabIndex = this.steps.length === 0 ? 0 : -1;
    span.hidden = true;
    span.style.setProperty("--heat", heat(-step.logprob).toFixed(4));
    if (step.text === "") {
      span.classList.add(step.bytes.length ? "open" : "control");
      span.setAttribute("aria-label", step.bytes.length ? "part of the next character" : "control token");
    } else if (/^\s*\n\s*$/.test(step.text)) {
      span.classList.add("line-end");
      span.setAttribute("aria-label", "line end");
    }
    // A single space before a word may vanish at a line's end; all other whitespace is kept as it is.
    span.classList.toggle("word", /^ \S+$/.test(step.text));
    this.#starts.push(this.#length);
    this.#length += step.text.length;
    this.steps.push(step);
    this.#spans.push(span);
    this.#tokens.append(span);
  }

  /** Shows as much of a token as the text has reached; true once that is all of it. */
  #reveal(index) {
    const start = this.#starts[index];
    const end = start + this.steps[index].text.length;
    const span = this.#spans[index];
    span.textContent = this.text.slice(start, end);
    span.hidden = this.text.length < end && span.textContent === "";
    return this.text.length >= end;
  }

  #key(event, choose) {
    const here = this.#spans.indexOf(event.target);
    const last = this.#spans.findLastIndex((span) => !span.hidden);
    const goal = {
      ArrowLeft: () => Math.max(here - 1, 0),
      ArrowRight: () => Math.min(here + 1, last),
      ArrowUp: () => this.#line(here, -1),
      ArrowDown: () => this.#line(here, 1),
      Home: () => 0,
      End: () => last,
      Enter: () => here,
      " ": () => here,
    }[event.key];
    if (!goal || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(goal());
  }

  /** The token nearest above (-1) or below (1) on the screen. */
  #line(here, direction) {
    const place = (span) => span.getClientRects()[0] ?? span.getBoundingClientRect();
    const from = place(this.#spans[here]);
    let best = here;
    let least = Infinity;
    this.#spans.forEach((span, index) => {
      const to = place(span);
      const rows = (to.top - from.top) * direction;
      const cost = rows * 1000 + Math.abs(to.left + to.width / 2 - from.left - from.width / 2);
      if (rows > from.height / 2 && cost < least) [best, least] = [index, cost];
    });
    return best;
  }
}
