// Following sessions until they have finished.

import { Refusal } from "./api.js";

const FINISHED = new Set(["completed", "partial", "failed", "cancelled"]);
/** Pause before the session is polled if its event stream is unavailable. */
const PAUSE_MS = 2000;
/** Pause between requests for different sessions: at most ten a second, however many there are. */
const PACE_MS = 100;

export function isFinished(session) {
  return FINISHED.has(session.state);
}

/**
 * Yield the session at each change until it has finished: from its event stream, or by polling if
 * the server has no free stream or stops. `onSilence` is called when the server does not respond.
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

/**
 * Follow many sessions by polling one after the other. A stream for each would use up the
 * connections that a browser opens to one server, and block uploads.
 */
export class Follower {
  #api;
  #signal;
  #followed = new Map();
  #isRunning = false;

  constructor(api, signal) {
    this.#api = api;
    this.#signal = signal;
  }

  /** `onChange` gets the session until it has finished; `onLost` gets a final Refusal. */
  follow(id, { onChange, onLost }) {
    this.#followed.set(id, { onChange, onLost });
    if (!this.#isRunning) this.#run();
  }

  async #run() {
    this.#isRunning = true;
    try {
      while (this.#followed.size) {
        for (const [id, told] of [...this.#followed]) {
          await this.#ask(id, told);
          await pause(PACE_MS, this.#signal);
        }
        await pause(PAUSE_MS, this.#signal);
      }
    } catch (error) {
      if (!this.#signal.aborted) throw error;
    } finally {
      this.#isRunning = false;
    }
  }

  async #ask(id, { onChange, onLost }) {
    try {
      const session = await this.#api.json(`/v1/sessions/${id}`, this.#signal);
      if (isFinished(session)) this.#followed.delete(id);
      onChange(session);
    } catch (error) {
      if (this.#signal.aborted || !(error instanceof Refusal)) throw error;
      if (error.isPassing) return;
      this.#followed.delete(id);
      onLost(error);
    }
  }
}

/** Rethrow errors that a retry cannot fix. */
function throwUnlessPassing(error, signal) {
  const isFinal = error instanceof Refusal && !error.isPassing;
  if (signal.aborted || isFinal) throw error;
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

/** Wait; reject with the signal's reason if it aborts first. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
