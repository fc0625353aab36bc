// One recording of this tab on its way: its line on the page, and what became of it.

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
    /** The same for each try, so that a try whose answer was lost makes no second session. */
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

  /** Begin to send; returns the signal that a cancel gives. */
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
      : `Sent ${bytes(this.file.size)}, waiting for the answer`);
  }

  /** The server asks to wait before the next try. */
  rest(seconds) {
    this.#turn("sending", `The server is busy: next try in ${count(seconds, "second")}`);
  }

  cancel() {
    this.#sending?.abort();
    this.#turn("cancelled", "Cancelled before it was sent");
  }

  /** Show the session that the recording has become, as it stands. */
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

  /** Show why it was not taken, or cannot be followed, and what can be done about it. */
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

/** A random Idempotency-Key. `crypto.randomUUID` is missing where a page is served by plain HTTP. */
function randomKey() {
  const numbers = crypto.getRandomValues(new Uint8Array(16));
  return [...numbers].map((number) => number.toString(16).padStart(2, "0")).join("");
}
