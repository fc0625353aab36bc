// The list of sessions, a page at a time.

import { element, say } from "./dom.js";
import { Filters } from "./filters.js";
import { clock, closed, count, moment, sentence, typeName } from "./text.js";
import { isFinished, pause } from "./watch.js";

/** Pause between two loads of a page with unfinished sessions. */
const PAUSE_MS = 3000;
/** Most noise types to name in a row. */
const TYPES = 3;

/** The session that each row shows, as JSON. */
const filled = new WeakMap();

export class SessionList {
  #ids;
  #onWell;
  #onTrouble;
  #filters;
  #api = null;
  #signal = null;
  #asking = new AbortController();
  #rows = new Map();
  #next = null;

  /** `onWell` is called after each success, `onTrouble` with each Refusal. */
  constructor(ids, { onWell, onTrouble }) {
    this.#ids = ids;
    this.#onWell = onWell;
    this.#onTrouble = onTrouble;
    this.#filters = new Filters(ids, () => this.load());
    ids("first-page").addEventListener("click", () => this.#turn(null));
    ids("next-page").addEventListener("click", () => this.#turn(this.#next));
    ids("previous-page").addEventListener("click", () => history.back());
  }

  /** Show the sessions that a key may see, until the signal aborts. */
  async open(api, signal) {
    this.#api = api;
    this.#signal = signal;
    this.#clear();
    await this.load();
    if (!signal.aborted) this.#offerTypes();
  }

  clearFilters() {
    this.#filters.clear();
    this.load();
  }

  /** Load the page that the URL names, and again while a session on it is unfinished. */
  async load() {
    if (!this.#signal || this.#signal.aborted) return;
    this.#asking.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#signal, this.#asking.signal]);
    this.#filters.show();
    let again;
    try {
      const page = await this.#api.json(`/v1/sessions?${this.#filters.query}`, signal);
      this.#show(page);
      this.#onWell();
      again = page.items.some((session) => !isFinished(session));
    } catch (error) {
      if (signal.aborted) return;
      again = error.isPassing;
      // Rows of other filters could be mistaken for results of these.
      if (error.status === 400) this.#clear();
      this.#onTrouble(error);
    }
    if (again) this.#loadLater(signal);
  }

  async #loadLater(signal) {
    try {
      await pause(PAUSE_MS, signal);
    } catch {
      return;
    }
    this.load();
  }

  async #offerTypes() {
    try {
      const { items } = await this.#api.json("/v1/models?limit=1000", this.#signal);
      const names = new Set(items.flatMap((model) => model.classes));
      names.add("unclassified").delete("background");
      this.#filters.offer([...names].sort());
    } catch {
      // The list works without these choices, and its own requests report errors.
    }
  }

  #clear() {
    this.#rows.clear();
    this.#ids("rows").replaceChildren();
    for (const part of ["sessions", "empty", "pages"]) this.#ids(part).hidden = true;
    say(this.#ids("list-status"), "");
  }

  #turn(cursor) {
    this.#filters.turn(cursor);
    // The button may be gone on the next page, but the heading stays.
    this.#ids("list-title").focus();
    this.load();
  }

  #show({ items, next_cursor: next }) {
    this.#next = next;
    const focused = document.activeElement;
    const rows = new Map(items.map((session) =>
      [session.id, fill(this.#rows.get(session.id) ?? element("tr"), session)]));
    this.#rows = rows;
    this.#ids("rows").replaceChildren(...rows.values());
    // Moving a row removes the focus from its contents.
    if (focused?.isConnected) focused.focus();
    this.#ids("sessions").hidden = !items.length;
    this.#showEmpty(!items.length);
    const isFirst = this.#filters.isFirstPage;
    this.#ids("first-page").hidden = isFirst;
    this.#ids("previous-page").hidden = !this.#filters.hasPrevious;
    this.#ids("next-page").hidden = next === null;
    this.#ids("pages").hidden = isFirst && next === null && !this.#filters.hasPrevious;
    const more = next === null ? "" : "; there are more";
    say(this.#ids("list-status"),
      items.length ? `${count(items.length, "session")} on this page${more}` : "No sessions");
  }

  #showEmpty(isEmpty) {
    this.#ids("empty").hidden = !isEmpty;
    // The note below shows the same text: keep this one for screen readers.
    this.#ids("list-status").classList.toggle("unseen", isEmpty);
    const isWhole = !this.#filters.number && this.#filters.isFirstPage;
    this.#ids("empty-clear").hidden = isWhole;
    this.#ids("empty-title").textContent = isWhole
      ? "There are no sessions yet." : "No sessions match these filters.";
    this.#ids("empty-detail").textContent = isWhole
      ? "Choose recordings above, or drop them on this page. Each becomes a session in this list."
        + " Programs use POST /v1/sessions: see the API reference."
      : "Change the filters, or clear them to see all sessions.";
  }
}

/** Fill a row with the cells of a session, unless it already shows them. */
function fill(row, session) {
  const key = JSON.stringify(session);
  if (filled.get(row) === key) return row;
  const hadFocus = row.contains(document.activeElement);
  filled.set(row, key);
  const link = element("a", { href: `/sessions/${session.id}` }, session.file_name);
  const received = moment(session.created_at);
  row.replaceChildren(
    element("td", { className: "name" }, link,
      element("span", { className: "narrow quiet" }, received)),
    element("td", {}, ...state(session)),
    element("td", {}, noise(session)),
    element("td", { className: "number wide" },
      session.duration_s === null ? "" : clock(session.duration_s)),
    element("td", { className: "wide" },
      session.recorded_at ? moment(session.recorded_at, session.time_zone) : ""),
    element("td", { className: "wide" }, received));
  if (hadFocus) link.focus();
  return row;
}

function state(session) {
  if (isFinished(session)) {
    const why = session.problem?.detail;
    const parts = [element("span", { className: `state ${session.state}` }, sentence(session.state))];
    if (why) parts.push(element("span", { className: "quiet why" }, closed(sentence(why))));
    return parts;
  }
  const bar = element("progress", { max: 100, value: session.percent });
  bar.setAttribute("aria-label", `Progress of ${session.file_name}`);
  return [element("span", {}, `${sentence(session.stage)}, ${session.percent} %`), bar];
}

/** Return the number of events and their most frequent types. */
function noise({ summary }) {
  if (!summary) return "";
  const types = Object.entries(summary.noise_types)
    .sort(([, a], [, b]) => b.events - a.events)
    .map(([name]) => typeName(name));
  const rest = types.length - TYPES;
  const named = types.slice(0, TYPES).join(", ") + (rest > 0 ? ` and ${count(rest, "more type")}` : "");
  return named ? `${count(summary.events, "event")}: ${named}` : "No events";
}
