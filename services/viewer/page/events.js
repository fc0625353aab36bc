// The table of events, with its filters and its order.

import { swatch } from "./styles.js";
import { bound, clock, count, decibels, level, percent, typeName } from "./text.js";

/** Rows drawn at once; a button shows more. */
const ROWS = 200;

const COLUMNS = [
  { name: "Start", of: (event) => event.start_s, cell: null },
  { name: "Noise type", of: (event) => typeName(event.noise_type), cell: null },
  { name: "Length", of: (event) => event.end_s - event.start_s, number: true, wide: true,
    cell: (event) => `${(event.end_s - event.start_s).toFixed(1)} s` },
  { name: "Confidence", of: (event) => event.confidence, number: true, cell: null },
  { name: "LAeq", of: (event) => event.laeq_db ?? -Infinity, number: true,
    cell: (event) => bound(event.laeq_db, event.overloaded) },
  { name: "LAFmax", of: (event) => event.lafmax_db ?? -Infinity, number: true, wide: true,
    cell: (event) => bound(event.lafmax_db, event.overloaded) },
];

export class EventTable {
  #ids;
  #onSeek;
  #onFilter;
  #events = [];
  #styles = new Map();
  #order = { column: 0, falling: false };
  #most = ROWS;
  #rows = new Map();
  #chosen = null;
  #reference = "";

  /** `ids` finds elements; `onSeek` gets the chosen event, `onFilter` the events shown. */
  constructor(ids, onSeek, onFilter) {
    this.#ids = ids;
    this.#onSeek = onSeek;
    this.#onFilter = onFilter;
    ids("heads").replaceChildren(...COLUMNS.map((column, index) => this.#head(column, index)));
    ids("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const name of ["type", "confidence"]) {
      ids(name).addEventListener("input", () => {
        this.#most = ROWS;
        this.#draw();
      });
    }
    ids("more").addEventListener("click", () => {
      const first = this.#rows.size;
      this.#most += ROWS;
      this.#draw();
      // The button has moved down or is gone: focus the first new row.
      ids("rows").rows[first]?.querySelector("button").focus();
    });
  }

  /** Show events; `reference` is the reference of their levels. */
  show(events, styles, reference) {
    this.#events = events;
    this.#reference = reference;
    this.#styles = styles;
    const kinds = [...styles.keys()].map((name) => {
      const number = events.filter((event) => event.noise_type === name).length;
      return new Option(`${styles.get(name).code}  ${typeName(name)} (${number})`, name);
    });
    this.#ids("type").replaceChildren(new Option("All types", ""), ...kinds);
    this.#draw();
  }

  /** Highlight one event, or none if null. */
  choose(event) {
    this.#chosen = event;
    for (const [each, row] of this.#rows) row.classList.toggle("chosen", each === event);
    const levels = event ? moreLevels(event, this.#reference) : "";
    this.#ids("event-levels").textContent = levels;
    this.#ids("event-levels").hidden = !levels;
  }

  #draw() {
    const kind = this.#ids("type").value;
    const least = Number(this.#ids("confidence").value) / 100;
    const shown = this.#events.filter((event) =>
      (!kind || event.noise_type === kind) && event.confidence >= least);
    const { column, falling } = this.#order;
    const key = COLUMNS[column].of;
    const sign = falling ? -1 : 1;
    const sorted = shown.toSorted((a, b) => {
      const [left, right] = [key(a), key(b)];
      return left === right ? a.start_s - b.start_s : left < right ? -sign : sign;
    });
    this.#rows = new Map(sorted.slice(0, this.#most).map((event) => [event, this.#row(event)]));
    this.#ids("rows").replaceChildren(...this.#rows.values());
    this.#ids("confidence-value").textContent = percent(least);
    this.#ids("confidence").setAttribute("aria-valuetext", percent(least));
    const told = shown.length === this.#events.length
      ? count(shown.length, "event")
      : `${shown.length} of ${count(this.#events.length, "event")}`;
    const bounds = shown.some((event) => event.overloaded)
      ? "; \u2265 marks lower bounds, where the recording is overloaded" : "";
    this.#ids("count").textContent = `${told}, levels in ${this.#reference}${bounds}`;
    const rest = sorted.length - this.#rows.size;
    this.#ids("more").hidden = rest <= 0;
    this.#ids("more").textContent = `Show ${Math.min(rest, ROWS)} more`;
    this.#ids("scroll").hidden = !this.#events.length;
    this.#onFilter(shown, told);
    this.choose(this.#chosen);
  }

  #head(column, index) {
    const head = document.createElement("th");
    head.scope = "col";
    head.className = classes(column);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => {
      const again = this.#order.column === index;
      // Numbers start in descending order, times and names in ascending order.
      this.#order = { column: index, falling: again ? !this.#order.falling : Boolean(column.number) };
      this.#sortedBy();
      this.#draw();
    });
    head.append(button);
    if (index === this.#order.column) head.setAttribute("aria-sort", "ascending");
    return head;
  }

  #sortedBy() {
    [...this.#ids("heads").cells].forEach((head, index) => {
      if (index !== this.#order.column) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.#order.falling ? "descending" : "ascending");
    });
  }

  #row(event) {
    const row = document.createElement("tr");
    row.append(...COLUMNS.map((column) => {
      const cell = document.createElement("td");
      cell.className = classes(column);
      if (column.cell) cell.textContent = column.cell(event);
      return cell;
    }));
    const [start, kind, , confidence] = row.cells;
    const style = this.#styles.get(event.noise_type);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = clock(event.start_s);
    button.setAttribute("aria-label",
      `Go to ${clock(event.start_s)}, ${typeName(event.noise_type)}`);
    start.append(button);
    kind.classList.add("type");
    kind.append(swatch(style), `${style.code}  ${typeName(event.noise_type)}`);
    const others = event.candidates.filter((each) => each.noise_type !== event.noise_type);
    if (others.length) {
      kind.title = others.slice(0, 3)
        .map((each) => `${typeName(each.noise_type)} ${percent(each.score)}`).join(", ");
    }
    const meter = document.createElement("meter");
    meter.value = event.confidence;
    meter.setAttribute("aria-hidden", "true");
    confidence.append(percent(event.confidence), meter);
    // One listener suffices: clicks and Enter on the button bubble to its row.
    row.addEventListener("click", () => this.#onSeek(event));
    return row;
  }
}

function classes({ number, wide }) {
  return [number && "number", wide && "wide"].filter(Boolean).join(" ");
}

/** The levels of an event that have no column; empty if none were measured. */
function moreLevels(event, reference) {
  const parts = [
    ["LAE", event.lae_db],
    ["LASmax", event.lasmax_db],
    ["LCpeak", event.lcpeak_db],
    ["LA90 before", event.background_la90_db],
  ].filter(([, db]) => db !== null).map(([name, db]) => `${name} ${level(db)} ${reference}`);
  if (event.emergence_db !== null) {
    parts.push(`emergence ${decibels(event.emergence_db.toFixed(1))} dB`,
      `${event.above_background_s.toFixed(1)} s above the background`);
  }
  if (!parts.length) return "";
  return `${typeName(event.noise_type)}, ${clock(event.start_s)}: ${parts.join(" · ")}`;
}
