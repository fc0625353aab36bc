// One upload of this tab: its line on the page, and its state.

import { element, say } from "./dom.js";
import { remedyOf } from "./remedies.js";
import { bytes, closed, count, percent, sentence } from "./text.js";
import { isFinished } from "./watch.js";

export class Upload {
  #stage = element("p", { className: "quiet" });
  #bar = element("progress", { max: 1 });
  #trouble = element("p", { className: "note bad", hidden: true });
  #name;
  #again = element("button", { type: "button", hidden: true }, "Try again");
  #cancel = element("button", { type: "button" }, "Cancel");
  #sending = null;

  /** `onAgain` and `onCancel` get this upload when their buttons are pressed. */
  constructor(file, { onAgain, onCancel }) {
    this.file = file;
    /** waiting, sending, processing, done, refused or cancelled. */
    this.state = "waiting";
    /** The same for each attempt, so that a lost response does not lead to a second session. */
    this.key = randomKey();
    this.#name = element("p", { className: "name" }, file.name);
    this.#bar.setAttribute("aria-label", `Progress of ${file.name}`);
    this.#again.setAttribute("aria-label", `Try again: ${file.name}`);
    this.#cancel.setAttribute("aria-label", `Cancel: ${file.name}`);
    this.#again.addEventListener("click", () => {
      this.line.focus();
      onAgain(this);
    });
    this.#cancel.addEventListener("click", () => {
      this.line.focus();
      onCancel(this);
    });
    this.line = element("li", { className: "upload", tabIndex: -1 },
      element("div", { className: "upload-head" }, this.#name,
        element("p", { className: "buttons" }, this.#again, this.#cancel)),
      this.#stage, this.#bar, this.#trouble);
    this.wait();
  }

  get isOver() {
    return ["done", "refused", "cancelled"].includes(this.state);
  }

  wait() {
    this.#turn("waiting", "Waiting to be sent");
  }

  /** Start sending; return the signal that aborts on cancel. */
  begin() {
    this.#sending = new AbortController();
    this.sent(0);
    return this.#sending.signal;
  }

  sent(n_bytes) {
    const share = Math.min(n_bytes / this.file.size, 1);
    this.#bar.value = share;
    this.#turn("sending", share < 1
      ? `Sending, ${percent(share)} of ${bytes(this.file.size)}`
      : `Sent ${bytes(this.file.size)}, waiting for the response`);
  }

  /** Show that the server asked to wait before the next attempt. */
  rest(seconds) {
    this.#turn("sending", `The server is busy: retrying in ${count(seconds, "second")}`);
  }

  cancel() {
    this.#sending?.abort();
    this.#turn("cancelled", "Cancelled before it was sent");
  }

  /** Show the current state of the recording's session. */
  show(session) {
    if (!this.#name.querySelector("a")) {
      this.#name.replaceChildren(
        element("a", { href: `/sessions/${session.id}` }, session.file_name));
    }
    if (!isFinished(session)) {
      this.#bar.value = session.percent / 100;
      this.#turn("processing", `${sentence(session.stage)}, ${session.percent} %`);
      return;
    }
    const heard = session.summary ? `: ${count(session.summary.events, "event")}` : "";
    this.#turn("done", sentence(session.state) + heard);
    if (session.problem) this.#explain(session.problem.detail);
  }

  /** Show why the upload was refused or cannot be followed, and the remedy. */
  async refuse(refusal) {
    this.#turn("refused", refusal.title);
    this.#explain(refusal.message);
    const remedy = await remedyOf(refusal);
    if (this.state !== "refused" || !remedy) return;
    this.#trouble.append(" ", closed(remedy), " ",
      element("a", { href: `/problems/${refusal.kind}` }, "About this problem"));
  }

  #explain(detail) {
    this.#trouble.replaceChildren(closed(sentence(detail)));
    this.#trouble.hidden = false;
  }

  #turn(state, stage) {
    this.state = state;
    say(this.#stage, stage);
    this.#trouble.hidden = true;
    this.#bar.hidden = !["sending", "processing"].includes(state);
    this.#again.hidden = !["refused", "cancelled"].includes(state);
    this.#cancel.hidden = !["waiting", "sending"].includes(state);
  }
}

/** Return a random Idempotency-Key. Pages over plain HTTP have no `crypto.randomUUID`. */
function randomKey() {
  const numbers = crypto.getRandomValues(new Uint8Array(16));
  return [...numbers].map((number) => number.toString(16).padStart(2, "0")).join("");
}
