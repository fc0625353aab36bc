// The picture of a session, over one time axis: a row for each noise type, the spectrogram, and the
// level.

import { pooled, spansOf } from "./series.js";
import { definitions, svg } from "./styles.js";
import { clock, count, decibels, percent, typeName } from "./text.js";

/** The frequency range of the spectrogram: see actors/science/audio_io/spectrogram.py. */
const LOWEST_HZ = 40;
const HIGHEST_HZ = 8000;
const FREQUENCIES_HZ = [50, 100, 200, 500, 1000, 2000, 5000];

const ROW = 24;
const GAP = 14;
const RIGHT = 8;
const NARROW = 640;
/** Narrowest event, in pixels, to draw as a frame; and the height of the mark drawn otherwise. */
const NARROWEST = 8;
const MARK = 14;
const TIME_STEPS_S = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
];
const LEVEL_STEPS_DB = [2, 5, 10, 20, 40];
/** Lowest level that extends the axis; silence is drawn as a gap. */
const LOWEST_DBFS = -110;

export class Picture {
  #root;
  #name;
  #onSeek;
  #image = null;
  #state = null;
  #place = null;
  #head = null;
  #drawn = new Map();

  /** `onSeek` gets the seconds, and the event under the pointer, if any. */
  constructor(root, name, onSeek) {
    this.#root = root;
    this.#name = name;
    this.#onSeek = onSeek;
    new ResizeObserver(() => this.#draw()).observe(root.parentElement);
    root.addEventListener("pointerdown", (press) => this.#press(press));
  }

  set image(url) {
    this.#image = url;
    this.#draw();
  }

  /** Show a recording's duration, missing seconds, events with their styles, and levels. */
  show(state) {
    this.#state = state;
    this.#draw();
  }

  /** Move the playhead to a position in seconds. */
  set position(seconds) {
    if (!this.#head) return;
    const x = this.#place.x(seconds);
    for (const line of this.#head) {
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
  }

  /** Highlight one event, or none if null. */
  choose(event) {
    for (const [each, groups] of this.#drawn) {
      for (const group of groups) group.classList.toggle("chosen", each === event);
    }
  }

  #draw() {
    const width = this.#root.parentElement.clientWidth;
    if (!this.#state || !width) return;
    const { duration_s: duration, missing, events, styles, levels } = this.#state;
    const narrow = width < NARROW;
    const gutter = narrow ? 42 : 132;
    const end_s = endOf(duration, missing);
    const plot = width - gutter - RIGHT;
    const x = (seconds) => gutter + (Math.min(Math.max(seconds, 0), end_s) / end_s) * plot;
    const rows = { y: 0, height: styles.size * ROW };
    const tall = { y: rows.height + (styles.size ? 6 : 0), height: narrow ? 170 : 240 };
    const low = { y: tall.y + tall.height + GAP, height: narrow ? 120 : 150 };
    const height = low.y + low.height + 24;
    this.#place = { gutter, plot, x, end_s };
    this.#drawn = new Map(events.map((event) => [event, []]));
    this.#root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#root.setAttribute("height", height);
    this.#root.closest("figure").style.setProperty("--gutter", `${gutter}px`);
    const area = { x: gutter, width: plot };
    this.#root.replaceChildren(
      definitions(styles),
      ...this.#rows(rows, { narrow, events, styles }),
      ...this.#spectrogram({ ...tall, ...area }, { duration, events, styles }),
      ...this.#level({ ...low, ...area }, { levels, events, styles }),
      ...this.#missing(missing, { y: tall.y, height: low.y + low.height - tall.y }),
      ...this.#times(low.y + low.height, narrow),
      ...this.#playhead(height - 24),
    );
    this.#name.textContent = `Spectrogram and level of ${clock(duration)} of sound with ${
      count(events.length, "event")}, listed in the table below.`;
  }

  /** Draw a row for each type, with a bar for each of its events. */
  #rows(place, { narrow, events, styles }) {
    const names = [...styles.keys()];
    const labels = names.map((name, index) => {
      const { code } = styles.get(name);
      return text(narrow ? code : `${code}  ${typeName(name)}`, this.#place.gutter - 8,
        place.y + index * ROW + 16, "axis", "end");
    });
    const lines = names.map((_, index) => {
      const y = place.y + index * ROW + ROW / 2;
      const { gutter, plot } = this.#place;
      return svg("line", { x1: gutter, x2: gutter + plot, y1: y, y2: y, class: "grid" });
    });
    const bars = events.map((event) => {
      const y = place.y + names.indexOf(event.noise_type) * ROW + 4;
      const { from, length } = this.#stretch(event);
      return this.#event(event, svg("rect", {
        x: from, y, width: length, height: ROW - 8, rx: 2, class: "bar",
        fill: styles.get(event.noise_type).fill,
      }));
    });
    return [...lines, ...labels, ...bars];
  }

  #spectrogram(place, { duration, events, styles }) {
    const { x, y, width, height } = place;
    const share = Math.log(HIGHEST_HZ / LOWEST_HZ);
    const ticks = FREQUENCIES_HZ.map((hz) => {
      const at = y + height * (1 - Math.log(hz / LOWEST_HZ) / share);
      return text(hz < 1000 ? hz : `${hz / 1000}k`, x - 6, at + 4, "axis", "end");
    });
    const ground = this.#image
      ? svg("image", {
        href: this.#image, x, y, height, width: this.#place.x(duration) - x,
        preserveAspectRatio: "none",
      })
      : svg("rect", { x, y, width, height, class: "empty" });
    let free = 0;
    const boxes = events.map((event) => {
      const style = styles.get(event.noise_type);
      const { from, length } = this.#stretch(event);
      const box = { x: from, y: y + 2, width: length, height: height - 4, rx: 2 };
      // A frame would hide an event narrower than its lines; a mark at the top does not.
      const parts = length < NARROWEST
        ? [svg("rect", { ...box, height: MARK, class: "mark", fill: style.colour })]
        : [
          svg("rect", { ...box, class: "halo" }),
          svg("rect", {
            ...box, class: "box", stroke: style.colour, "stroke-dasharray": style.dashes,
          }),
        ];
      // Overlapping letters would be illegible; the rows above show the types then.
      if (from >= free) {
        parts.push(text(style.code, from + 3, y + (length < NARROWEST ? MARK : 0) + 15, "code"));
        free = from + 14;
      }
      return this.#event(event, ...parts);
    });
    return [
      ground, ...ticks, sideways("Hz", y + height / 2, this.#place.gutter),
      svg("rect", { x, y, width, height, class: "frame" }), ...boxes,
    ];
  }

  /** Draw LAeq and LAFmax of each second, with the events behind them. */
  #level(place, { levels, events, styles }) {
    const { x, y, width, height } = place;
    const frame = svg("rect", { x, y, width, height, class: "frame" });
    if (!levels) return [frame, text("levels are available at the end", x + 10, y + 20, "axis")];
    const series = pooled(levels.series, Math.max(1, Math.floor(width)));
    const heard = [...series.laeq_db, ...series.lafmax_db].filter((db) => db !== null);
    const floor = levels.calibration_db === null ? LOWEST_DBFS : LOWEST_DBFS + 120;
    const lowest = Math.max(Math.min(...heard, Infinity), floor);
    const top = Math.ceil((Math.max(...heard, floor + 10) + 2) / 5) * 5;
    const bottom = Math.min(Math.floor(((heard.length ? lowest : floor) - 2) / 5) * 5, top - 15);
    const at = (db) => y + height * (1 - (Math.max(db, bottom) - bottom) / (top - bottom));
    const step = LEVEL_STEPS_DB.find((each) => (top - bottom) / each <= 6) ?? 40;
    const ticks = [];
    for (let db = Math.ceil(bottom / step) * step; db <= top; db += step) {
      ticks.push(
        svg("line", { x1: x, x2: x + width, y1: at(db), y2: at(db), class: "grid" }),
        text(decibels(db), x - 6, at(db) + 4, "axis", "end"),
      );
    }
    const bands = events.map((event) => {
      const { from, length } = this.#stretch(event);
      return this.#event(event, svg("rect", {
        x: from, y: y + 1, width: length, height: height - 2, "fill-opacity": 0.3,
        fill: styles.get(event.noise_type).fill,
      }));
    });
    const marks = (values, name, at_y, height_px, why) => spansOf(values ?? [], series.step_s)
      .map(({ start_s, end_s }) => svg("rect", {
        ...this.#span({ start_s, end_s: Math.min(end_s, levels.duration_s) }),
        y: at_y, height: height_px, class: name,
      }, svg("title", {}, why)));
    const line = (values, name) => svg("path", {
      class: name, d: staircase(values, series.step_s, this.#place.x, at, levels.duration_s),
    });
    return [
      ...ticks, ...bands, line(series.lafmax_db, "lafmax"), line(series.laeq_db, "laeq"), frame,
      ...marks(series.overloaded, "overload", y, 7, "Overload: levels are lower bounds"),
      ...marks(series.under_range, "under-range", y + height - 4, 4,
        "Under-range: levels are upper bounds"),
      sideways(levels.level_reference, y + height / 2, this.#place.gutter),
    ];
  }

  #missing(missing, { y, height }) {
    return missing.flatMap((part) => {
      const from = this.#place.x(part.start_s);
      const width = Math.max(this.#place.x(part.end_s) - from, 3);
      const lines = [];
      for (let at = from - height; at < from + width; at += 14) {
        const first = Math.max(at, from);
        const last = Math.min(at + height, from + width);
        lines.push(`M${first} ${y + first - at}L${last} ${y + last - at}`);
      }
      const parts = [
        svg("rect", { x: from, y, width, height, class: "missing-ground" }),
        svg("path", { d: lines.join(""), class: "missing-line" }),
      ];
      if (width > 60) {
        parts.push(
          svg("rect", { x: from + 4, y: y + 22, width: 54, height: 18, class: "missing-ground" }),
          text("missing", from + 8, y + 36, "missing-name"),
        );
      }
      return [svg("g", { class: "missing" }, ...parts)];
    });
  }

  #times(y, narrow) {
    const { x, plot, end_s } = this.#place;
    const step = TIME_STEPS_S.find((each) => (each / end_s) * plot >= (narrow ? 56 : 76)) ?? 28800;
    const ticks = [];
    for (let index = 0; index * step <= end_s * 1.0001; index += 1) {
      const at = x(index * step);
      const anchor = index === 0 ? "start" : at > this.#place.gutter + plot - 16 ? "end" : "middle";
      ticks.push(
        svg("line", { x1: at, x2: at, y1: y, y2: y + 4, class: "frame" }),
        text(clock(index * step, step < 1 ? 1 : 0), at, y + 18, "axis", anchor),
      );
    }
    return ticks;
  }

  #playhead(height) {
    this.#head = ["playhead-halo", "playhead"].map((name) => svg("line", {
      x1: this.#place.gutter, x2: this.#place.gutter, y1: 0, y2: height, class: name,
    }));
    return this.#head;
  }

  #span(part) {
    const { from, length } = this.#stretch(part);
    return { x: from, width: length };
  }

  #stretch(event) {
    const from = this.#place.x(event.start_s);
    return { from, length: Math.max(this.#place.x(event.end_s) - from, 2) };
  }

  #event(event, ...parts) {
    const name = `${typeName(event.noise_type)}, ${percent(event.confidence)}`;
    const group = svg("g", { class: "event" }, svg("title", {}, name), ...parts);
    group.clamorEvent = event;
    this.#drawn.get(event).push(group);
    return group;
  }

  #press(press) {
    if (!this.#place || press.button !== 0) return;
    const event = press.target.closest(".event")?.clamorEvent;
    const { gutter, plot, end_s } = this.#place;
    const share = (press.clientX - this.#root.getBoundingClientRect().left - gutter) / plot;
    if (event) this.#onSeek(event.start_s, event);
    else if (share >= 0 && share <= 1) this.#onSeek(share * end_s, null);
  }
}

/** Return the end of the time axis, including missing parts after the end, within limits. */
export function endOf(duration, missing) {
  return Math.max(0.1, Math.min(Math.max(duration, ...missing.map((part) => part.end_s)), 2 * duration));
}

/** Return a path with a step for each value, and gaps for null. */
function staircase(values, step_s, x, y, duration) {
  let path = "";
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    const from = x(index * step_s).toFixed(1);
    const to = x(Math.min((index + 1) * step_s, duration)).toFixed(1);
    path += `${open ? "L" : "M"}${from} ${y(value).toFixed(1)}H${to}`;
    open = true;
  });
  return path;
}

function text(content, x, y, name, anchor = "start") {
  return svg("text", { x, y, class: name, "text-anchor": anchor }, String(content));
}

function sideways(content, y, gutter) {
  const x = gutter < 60 ? 10 : gutter - 52;
  const label = text(content, x, y, "axis", "middle");
  label.setAttribute("transform", `rotate(-90 ${x} ${y})`);
  return label;
}
