// The filters of the list of sessions: form fields and query parameters.
//
// The URL is the source of truth, so that a list can be reloaded, bookmarked and shared. Its
// parameters are those of GET /v1/sessions and are passed on unchanged: the API validates them.

import { sentence, typeName } from "./text.js";

const RUNNING = ["queued", "splitting", "detecting", "aggregating"];
const ENDED = ["completed", "partial", "failed", "cancelled"];
const SORTS = {
  "-created_at": "Received, newest first",
  created_at: "Received, oldest first",
  "-recorded_at": "Recorded, newest first",
  recorded_at: "Recorded, oldest first",
  "-duration_s": "Longest first",
  duration_s: "Shortest first",
  "-finished_at": "Finished, latest first",
  finished_at: "Finished, earliest first",
};
const LIMITS = ["10", "25", "50", "100"];
/** Default values, which are left out of the URL. */
const USUAL = { sort: "-created_at", limit: "25" };
/** Parameters that order and page the list, but exclude nothing. */
const ARRANGING = new Set(["sort", "limit", "cursor"]);

/** One line of text. */
const TEXT = {
  read: (field) => [field.value.trim()].filter(Boolean),
  write: (field, [value = ""]) => { field.value = value; },
};
/** A fraction of 1, shown in percent. */
const SHARE = {
  read: (field) => [field.value].filter(Boolean).map((value) => rounded(value / 100)),
  write: (field, [value = ""]) => { field.value = value && rounded(value * 100); },
};
/** A time, shown in the browser's time zone. */
const TIME = {
  read: (field) => [field.value].filter(Boolean).map((value) => new Date(value).toISOString()),
  write: (field, [value = ""]) => {
    const moment = new Date(value);
    const local = new Date(moment - moment.getTimezoneOffset() * 60_000);
    field.value = Number.isNaN(local.getTime()) ? "" : local.toISOString().slice(0, 19);
  },
};
/** Any of several values, or one combination of them. */
const CHOICE = {
  read: (field) => JSON.parse(field.value),
  write: (field, values) => {
    const wanted = JSON.stringify(values);
    if (![...field.options].some((option) => option.value === wanted)) {
      field.append(option(values.map(typeName).join(" or "), values));
    }
    field.value = wanted;
  },
};
const FIELDS = {
  state: CHOICE,
  noise_type: CHOICE,
  min_confidence: SHARE,
  file_name: TEXT,
  created_from: TIME,
  created_to: TIME,
  recorded_from: TIME,
  recorded_to: TIME,
  batch_id: TEXT,
  metadata: TEXT,
  sort: CHOICE,
  limit: CHOICE,
};

export class Filters {
  #ids;
  /** The query that the fields show. */
  #shown = null;

  /** `onChange` is called when the filters change. */
  constructor(ids, onChange) {
    this.#ids = ids;
    ids("filter-state").replaceChildren(
      option("Any", []), option("In progress", RUNNING),
      ...[...RUNNING, ...ENDED].map((state) => option(sentence(state), [state])));
    ids("filter-noise_type").replaceChildren(option("Any", []));
    ids("filter-sort").replaceChildren(
      ...Object.entries(SORTS).map(([sort, name]) => option(name, unusual("sort", [sort]))));
    ids("filter-limit").replaceChildren(
      ...LIMITS.map((limit) => option(limit, unusual("limit", [limit]))));
    ids("filters").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go(this.#written());
      onChange();
    });
    for (const id of ["clear-filters", "empty-clear"]) {
      ids(id).addEventListener("click", () => {
        this.clear();
        onChange();
      });
    }
    addEventListener("popstate", () => {
      // A link within the page also changes the URL, but no filter.
      if (location.search !== this.#shown) onChange();
    });
  }

  /** The parameters for the API. */
  get query() {
    const query = new URLSearchParams(location.search);
    if (!query.has("limit")) query.set("limit", USUAL.limit);
    return query;
  }

  /** The number of active filters. */
  get number() {
    const names = new URLSearchParams(location.search).keys();
    return new Set([...names].filter((name) => !ARRANGING.has(name))).size;
  }

  get isFirstPage() {
    return !this.query.has("cursor");
  }

  /** Whether the previous entry of the browser's history is the previous page of the list. */
  get hasPrevious() {
    return (history.state?.depth ?? 0) > 0;
  }

  /** Fill the fields from the URL. */
  show() {
    this.#shown = location.search;
    const query = new URLSearchParams(location.search);
    for (const [name, kind] of Object.entries(FIELDS)) {
      kind.write(this.#ids(`filter-${name}`), unusual(name, query.getAll(name)));
    }
    const number = this.number;
    this.#ids("filter-summary").textContent = number ? `Filters (${number} in use)` : "Filters";
    if (number) this.#ids("filter-box").open = true;
  }

  /** Set the noise types to choose from. */
  offer(noiseTypes) {
    const field = this.#ids("filter-noise_type");
    const chosen = CHOICE.read(field);
    field.replaceChildren(
      option("Any", []), ...noiseTypes.map((name) => option(typeName(name), [name])));
    CHOICE.write(field, chosen);
  }

  /** Go to the page at a cursor, or to the first page if null. */
  turn(cursor) {
    const query = new URLSearchParams(location.search);
    query.delete("cursor");
    if (cursor !== null) query.set("cursor", cursor);
    this.#go(query, cursor === null ? 0 : (history.state?.depth ?? 0) + 1);
  }

  clear() {
    this.#go(new URLSearchParams());
  }

  #written() {
    const query = new URLSearchParams();
    for (const [name, kind] of Object.entries(FIELDS)) {
      for (const value of kind.read(this.#ids(`filter-${name}`))) query.append(name, value);
    }
    return query;
  }

  #go(query, depth = 0) {
    const search = query.size ? `?${query}` : "";
    history.pushState({ depth }, "", location.pathname + search);
  }
}

/** Return the values of a parameter that differ from its default. */
function unusual(name, values) {
  return values.filter((value) => value !== USUAL[name]);
}

function option(name, values) {
  return new Option(name, JSON.stringify(values));
}

/** Round a number to hide binary rounding errors. */
function rounded(number) {
  return String(Number(Number(number).toPrecision(12)));
}
