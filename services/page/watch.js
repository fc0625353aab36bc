// A session as it goes on.

import { Refusal } from "./api.js";

const FINISHED = new Set(["completed", "partial", "failed", "cancelled"]);
/** How long to wait where the stream of events is not to be had, before the session is asked for. */
const PAUSE_MS = 2000;

export function isFinished(session) {
  return FINISHED.has(session.state);
}

/**
 * Yields the session at each change until it has finished: from the stream of its events; where a
 * server has no place for one more, or stops, by asking now and then. `onSilence` is told when the
 * server does not answer at all.
 */
export async function* watch(api, path, signal, onSilence) {
  for (;;) {
    try {
      const response = await api.get(`${path}/events`, signal);
      for await (const session of sessionsOf(response.body)) {
        yield session;
        if (isFinished(session)) return;
      }
    } catch (error) {
      throwUnlessPassing(error, signal);
    }
    await pause(PAUSE_MS, signal);
    try {
      const session = await api.json(path, signal);
      yield session;
      if (isFinished(session)) return;
    } catch (error) {
      throwUnlessPassing(error, signal);
      onSilence();
    }
  }
}

/** What a better moment does not mend is for the caller. */
function throwUnlessPassing(error, signal) {
  const isFinal = error instanceof Refusal && error.status >= 400 && error.status < 500;
  if (signal.aborted || (isFinal && error.status !== 429)) throw error;
}

async function* sessionsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (waiting + value).split("\n\n");
      waiting = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice("data: ".length));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
