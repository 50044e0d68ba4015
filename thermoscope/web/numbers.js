// Numbers as people read them. Everything arrives in natural logarithms.

export const BITS_PER_NAT = 1 / Math.LN2;

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** A number of a step: JSON lacks the infinities, so they arrive as words. */
export function number(value) {
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return value;
}

/** 0.000032 as 3.2×10⁻⁵. */
function scientific(value) {
  const [mantissa, exponent] = value.toExponential(1).split("e");
  return `${mantissa}×10${[...exponent.replace("+", "")].map((sign) => SUPERSCRIPT[sign]).join("")}`;
}

/** A probability: four decimals, and what they would hide near 0 and near 1. */
export function probability(logprob) {
  const p = Math.exp(logprob);
  if (p === 0) return "0";
  if (p < 0.0005) return scientific(p);
  const rest = -Math.expm1(logprob);
  if (rest > 0 && rest < 0.00005) return `1 − ${scientific(rest)}`;
  return p.toFixed(4);
}

/** A mass in [0, 1] that is given as it is, not as a logarithm. */
export function mass(value) {
  return value > 0 && value < 0.0005 ? scientific(value) : value.toFixed(4);
}

/** A quantity in nats, bits or milliseconds. */
export function quantity(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value !== 0 && Math.abs(value) < 0.0005) return scientific(value);
  return value.toFixed(Math.abs(value) < 100 ? 3 : 1).replace("-", "−");
}

/** Whole numbers with thin spaces between thousands. */
export function count(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}
