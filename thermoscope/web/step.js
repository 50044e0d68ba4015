// The side panel: one step, in numbers and bars.

import { BITS_PER_NAT, count, mass, number, probability, quantity } from "./numbers.js";
import { drawCourse } from "./course.js";
import { heat } from "./scale.js";
import { hex, name, visible } from "./text.js";

/** Shows a step of an answer; `choose(answer, index)` is called when the reader moves to another one. */
export class StepPanel {
  #panel;
  #answer = null;
  #index = 0;

  constructor(panel, choose) {
    this.#panel = panel;
    const move = (by) => () => choose(this.#answer, this.#index + by);
    this.#part("previous").addEventListener("click", move(-1));
    this.#part("next").addEventListener("click", move(1));
    this.#part("course").addEventListener("click", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const last = this.#answer.steps.length - 1;
      choose(this.#answer, Math.round(((event.clientX - box.left) / box.width) * last));
    });
    new ResizeObserver(() => this.follow(this.#answer)).observe(this.#part("course"));
  }

  /** Shows one step. */
  show(answer, index) {
    this.#answer = answer;
    this.#index = index;
    delete this.#panel.dataset.empty;
    const step = answer.steps[index];
    this.#head(step);
    this.#readings(step);
    this.#alternatives(step);
    this.follow(answer);
  }

  /** Empties the panel. */
  clear() {
    this.#answer = null;
    this.#panel.dataset.empty = "";
    this.#part("position").textContent = "";
  }

  /** Redraws what depends on the whole answer, while it grows. */
  follow(answer) {
    if (answer === null || answer !== this.#answer) return;
    const { steps } = answer;
    this.#part("position").textContent = `token ${this.#index + 1} of ${steps.length}`;
    this.#part("previous").disabled = this.#index === 0;
    this.#part("next").disabled = this.#index === steps.length - 1;
    const top = drawCourse(this.#part("course"), steps.map((other) => other.entropy), this.#index);
    this.#part("course-top").textContent = `up to ${quantity(top)} nats`;
  }

  #head(step) {
    const title = this.#part("token-name");
    title.textContent = name(step);
    title.style.setProperty("--heat", heat(-step.logprob).toFixed(4));
    this.#part("token-id").textContent = String(step.token);
    this.#part("token-bytes").textContent = hex(step.bytes) || "none";
    const note = this.#part("token-note");
    note.textContent = this.#note(step);
    note.hidden = note.textContent === "";
  }

  #note(step) {
    if (this.#answer.takenBack(this.#index)) return "Taken back: not part of the answer that is shown.";
    if (step.bytes.length === 0) return "A control token: it has no text.";
    if (step.text === "") return "Part of a UTF-8 character that a later token completes.";
    const own = name(step);
    return own.startsWith("⟨") && own !== visible(step.text) ? `Completes “${visible(step.text)}”.` : "";
  }

  #readings(step) {
    const logprob = number(step.logprob);
    const sampler = number(step.sampler_logprob);
    this.#field("ms", step.ms, quantity(step.ms));
    this.#field("probability", Math.exp(logprob), probability(logprob));
    this.#field("surprisal", -logprob, quantity(0 - logprob));
    this.#field("surprisal_bits", -logprob * BITS_PER_NAT, quantity((0 - logprob) * BITS_PER_NAT));
    this.#field("sampler_probability", Math.exp(sampler), probability(sampler));
    this.#field("entropy", step.entropy, quantity(step.entropy));
    this.#field("entropy_bits", step.entropy * BITS_PER_NAT, quantity(step.entropy * BITS_PER_NAT));
    this.#field("choices", Math.exp(step.entropy), quantity(Math.exp(step.entropy)));
    this.#field("kept", step.kept, `${count(step.kept)} ${step.kept === 1 ? "token" : "tokens"}`);
    this.#field("removed_mass", step.removed_mass, mass(step.removed_mass));
    this.#field("log_z", step.log_z, quantity(step.log_z));
  }

  /** The full number in `value`, the readable one as text. */
  #field(field, value, text) {
    const element = this.#panel.querySelector(`[data-field="${field}"]`);
    element.value = String(value);
    element.textContent = text;
  }

  #alternatives(step) {
    const best = step.alternatives.map((other) => ({
      ...other,
      logprob: number(other.logprob),
      sampler: number(other.sampler_logprob),
      chosen: other.token === step.token,
      label: other.token === step.token ? name(step) : visible(other.text),
    }));
    if (!best.some((other) => other.chosen)) {
      const [logprob, sampler] = [number(step.logprob), number(step.sampler_logprob)];
      best.push({ token: step.token, label: name(step), logprob, sampler, chosen: true, beyond: true });
    }
    const top = Math.exp(Math.max(...best.flatMap((other) => [other.logprob, other.sampler])));
    this.#part("axis-top").textContent = `0 to ${mass(top)}`;
    this.#part("alternatives").replaceChildren(...best.map((other) => row(other, top)), remainder(best));
  }

  #part(id) {
    return this.#panel.querySelector(`#${id}`);
  }
}

function row(other, top) {
  const line = document.createElement("tr");
  const cut = other.sampler === -Infinity;
  line.title = `${other.label} · token id ${other.token}`;
  line.dataset.token = other.token;
  line.classList.toggle("cut", cut);
  line.classList.toggle("chosen", other.chosen);
  line.classList.toggle("beyond", other.beyond === true);
  if (other.chosen) line.setAttribute("aria-current", "true");
  const label = document.createElement("th");
  label.scope = "row";
  const text = document.createElement(cut ? "s" : "span");
  text.textContent = other.label;
  label.append(text);
  const bars = document.createElement("td");
  bars.className = "bars";
  bars.append(bar("model", other.logprob, top), bar("sampler", other.sampler, top));
  line.append(label, bars, value(other.logprob, probability(other.logprob)));
  line.append(value(other.sampler, cut ? "cut" : probability(other.sampler)));
  return line;
}

function bar(kind, logprob, top) {
  const shape = document.createElement("i");
  shape.className = kind;
  shape.style.width = `${(Math.exp(logprob) / top) * 100}%`;
  return shape;
}

function value(logprob, text) {
  const cell = document.createElement("td");
  const datum = document.createElement("data");
  datum.value = String(Math.exp(logprob));
  datum.textContent = text;
  cell.append(datum);
  return cell;
}

/** What the listed tokens leave for all others. */
function remainder(best) {
  const rest = (key) => Math.max(1 - best.reduce((sum, other) => sum + Math.exp(other[key]), 0), 0);
  const line = document.createElement("tr");
  line.className = "rest";
  const label = document.createElement("th");
  label.scope = "row";
  label.textContent = "all others";
  line.append(label, document.createElement("td"));
  for (const key of ["logprob", "sampler"]) {
    const left = rest(key);
    line.append(value(Math.log(left), left < 1e-6 ? "0" : mass(left)));
  }
  return line;
}
