// One chat completion, streamed: server-sent events over fetch.

/** What the server, or the way to it, said instead of an answer. */
export class ServerError extends Error {
  constructor(message, { type = null, param = null, code = null, status = null } = {}) {
    super(message);
    this.details = { status, type, param, code };
  }
}

/** Yields every chunk of the answer. Throws ServerError, or an AbortError after `signal` fired. */
export async function* complete(body, signal) {
  const response = await reach("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
    signal,
  });
  if (!response.ok) throw await refusal(response);
  let done = false;
  for await (const data of events(response.body)) {
    done ||= data === "[DONE]";
    if (done) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message, chunk.error);
    yield chunk;
  }
  if (!done) throw new ServerError("The stream broke off before the answer was complete.");
}

/** What the server is running. */
export async function health() {
  const response = await reach("/health", {});
  if (!response.ok) throw await refusal(response);
  return response.json();
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
}

async function refusal(response) {
  const status = response.status;
  try {
    const { error } = await response.json();
    return new ServerError(error.message, { ...error, status });
  } catch {
    return new ServerError(`The server answered ${status} ${response.statusText}.`, { status });
  }
}

/** The data of each event; a stream that breaks is a ServerError. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new ServerError("The connection broke while the answer was coming in.");
      });
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const lines = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
