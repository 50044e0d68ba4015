// The colour scale: surprisal in nats to heat in [0, 1], and the ruler that shows it.

import { BITS_PER_NAT } from "./numbers.js";

const HOTTEST = 6; // nats: a token of probability 1/400

/** Linear in nats; style.css turns heat into a colour along an even line in OKLab. */
export function heat(surprisal) {
  return Math.min(Math.max(surprisal / HOTTEST, 0), 1);
}

/** Draws both ticks and moves the needle, as a thermometer with °C on one side and °F on the other. */
export class Scale {
  #needle;

  constructor(element) {
    this.#needle = element.querySelector(".needle");
    ticks(element.querySelector(".nats"), 1, HOTTEST, 1);
    ticks(element.querySelector(".bits"), 2, HOTTEST * BITS_PER_NAT, 1 / BITS_PER_NAT);
  }

  /** Points at a surprisal; null takes the needle away. */
  point(surprisal) {
    this.#needle.hidden = surprisal === null;
    if (surprisal !== null) this.#needle.style.left = `${heat(surprisal) * 100}%`;
  }
}

function ticks(row, step, top, nats) {
  for (let value = 0; value <= top; value += step) {
    const tick = document.createElement("span");
    tick.textContent = value * nats >= HOTTEST ? `${value}+` : String(value);
    tick.style.left = `${heat(value * nats) * 100}%`;
    row.append(tick);
  }
}
