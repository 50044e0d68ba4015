// What a token is called where its whitespace and control characters must be seen.

const NAMES = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u200d": "⟨ZWJ⟩" };

/** The text with every space, line end and control character visible. */
export function visible(text) {
  return text.replace(/[\s\u00a0\u200b-\u200f\u0000-\u001f\u007f-\u009f]/g, (sign) => {
    return NAMES[sign] ?? `⟨${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** Bytes in hexadecimal, separated by spaces. */
export function hex(bytes) {
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

/** A step's own name: its bytes as text, its control name, or bare bytes where it holds part of a character. */
export function name(step) {
  if (step.bytes.length === 0) {
    return step.alternatives.find((other) => other.token === step.token)?.text ?? "⟨control⟩";
  }
  try {
    return visible(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(step.bytes)));
  } catch {
    return `⟨${hex(step.bytes)}⟩`;
  }
}
