// The settings of the next request. The server judges them, so that there is one set of rules.

const TOP = ["temperature", "top_p", "max_tokens"];
const OWN = ["top_k", "min_p"]; // Thermoscope's own fields, under one key

/** Reads the form, and keeps the slider and its input together. */
export class Settings {
  #form;

  constructor(form) {
    this.#form = form;
    const { temperature } = form.elements;
    const slider = form.querySelector("#temperature-slider");
    slider.addEventListener("input", () => {
      temperature.value = slider.value;
    });
    temperature.addEventListener("input", () => {
      if (temperature.value.trim() === "inf") slider.value = slider.max;
      else if (Number.isFinite(Number(temperature.value))) slider.value = temperature.value;
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** The JSON body of a request for the next answer of this conversation. */
  body(model, conversation) {
    const system = this.#text("system");
    const messages = system ? [{ role: "system", content: system }, ...conversation] : conversation;
    const request = { model, messages, stream: true, thermoscope: { steps: true } };
    for (const name of TOP) if (this.#text(name)) request[name] = this.#value(name);
    for (const name of OWN) if (this.#text(name)) request.thermoscope[name] = this.#value(name);
    const seed = this.#text("seed");
    // A seed has 64 bits and a JavaScript number 53, so its digits go into the JSON as they are.
    if (/^-?\d+$/.test(seed)) return `${JSON.stringify(request).slice(0, -1)},"seed":${BigInt(seed)}}`;
    return JSON.stringify(seed ? { ...request, seed } : request);
  }

  /** Marks the field that the server refused, until it is changed; `param` may be null, or name no field. */
  blame(param) {
    const field = this.#form.elements[(param ?? "").split(".").pop()];
    if (!(field instanceof HTMLElement)) return;
    field.setAttribute("aria-invalid", "true");
    field.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
  }

  #text(name) {
    return this.#form.elements[name].value.trim();
  }

  /** A number where it reads as one; else what was typed, for the server to refuse by name. */
  #value(name) {
    const text = this.#text(name);
    return Number.isFinite(Number(text)) ? Number(text) : text;
  }
}
