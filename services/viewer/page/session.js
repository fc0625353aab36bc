// The page of one session: sign-in, progress, and results.

import { Api, Refusal } from "./api.js";
import { channelStates, legend, sourceOf } from "./descriptions.js";
import { ids, say } from "./dom.js";
import { EventTable } from "./events.js";
import { KeyForm } from "./key.js";
import { endOf, Picture } from "./picture.js";
import { Player } from "./player.js";
import { stylesOf } from "./styles.js";
import {
  bound, bytes, clock, closed, count, decibels, level, moment, percent, sentence, typeName,
} from "./text.js";
import { hideTrouble, showTrouble } from "./trouble.js";
import { isFinished, watch } from "./watch.js";

/** Descriptions of the privacy settings that change the recording. */
const PRIVACY = {
  mute: "speech in the recording is replaced by noise",
  discard_audio: "the recording is removed when the session ends",
};
/** Recordings up to this size are fetched automatically; they are held in memory. */
const SOUND_BYTES = 50_000_000;
const DECODED = new Set(["detecting", "aggregating", "completed", "partial"]);

const path = `/v1/sessions/${location.pathname.split("/").at(-1)}`;

let api = null;
let opened = new AbortController();
let session = null;
let levels = null;
let shown = [];
let styles = new Map();
let chosen = null;
/** Names of the files that have been requested, so that each is requested once. */
let asked = new Set();
let urls = [];

const picture = new Picture(ids("picture"), ids("picture-name"), (seconds, event) => {
  choose(event);
  player.seek(seconds);
});
const player = new Player({
  audio: ids("audio"),
  slider: ids("position"),
  button: ids("play"),
  onMove: (seconds) => {
    picture.position = seconds;
    readOut(seconds);
  },
  onTrouble: () => soundNote(
    `This browser cannot play this recording (${session.container ?? "unknown format"}).`
      + " You can download it, and all other functions work."),
});
const table = new EventTable(ids, (event) => {
  choose(event);
  player.seek(event.start_s);
}, (events, told) => {
  shown = events;
  draw();
  if (session && isFinished(session)) say(ids("status"), told);
});

const keyForm = new KeyForm(ids, { onOpen: open, onForget: reset });
ids("again").addEventListener("click", () => keyForm.open());
ids("fetch-sound").addEventListener("click", () => fetchSound());

keyForm.open();

/** Show the session with a key, and follow it until it has finished. */
async function open(key) {
  reset();
  const { signal } = opened;
  api = new Api(key);
  try {
    show(await api.json(path, signal));
    if (!isFinished(session)) {
      for await (const next of watch(api, path, signal, () => showTrouble(
        ids, "The server does not respond", "Retrying every few seconds."))) {
        show(next);
      }
    }
    await finish(signal);
  } catch (error) {
    if (!signal.aborted) refuse(error);
  }
}

/** Reset the page: remove everything that was shown for another key. */
function reset() {
  opened.abort();
  opened = new AbortController();
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  asked = new Set();
  session = levels = null;
  shown = [];
  styles = new Map();
  choose(null);
  picture.image = null;
  ids("audio").removeAttribute("src");
  ids("play").disabled = true;
  ids("title").textContent = "Session";
  document.title = "Session · Clamor";
  const parts = ["subtitle", "trouble", "progress", "sound", "events", "about", "download",
    "fetch-sound", "sound-note"];
  for (const part of parts) ids(part).hidden = true;
}

function refuse(error) {
  if (!(error instanceof Refusal)) throw error;
  ids("progress").hidden = true;
  if (keyForm.replace(error)) return;
  if (error.status === 404) {
    showTrouble(ids, "Session not found", "It does not exist, or it belongs to another user."
      + " Another key may give access to it.");
  } else {
    showTrouble(ids, error.title, closed(error.message), { again: true });
  }
}

function show(next) {
  session = next;
  hideTrouble(ids);
  ids("title").textContent = session.file_name;
  document.title = `${session.file_name} · Clamor`;
  ids("subtitle").hidden = false;
  ids("subtitle").textContent = [
    session.duration_s === null ? null : clock(session.duration_s),
    session.summary && count(session.summary.events, "event"),
    session.summary && `LAeq ${bound(session.summary.laeq_db, isOverloaded(session.summary))} ${
      session.summary.level_reference}`,
    session.recorded_at
      ? `recorded ${moment(session.recorded_at, session.time_zone)}`
      : `received ${moment(session.created_at)}`,
  ].filter(Boolean).join(" · ");
  showProgress();
  showFacts();
  if (session.duration_s !== null) {
    ids("sound").hidden = false;
    player.duration = session.duration_s;
    draw();
  }
  // Before a recording's format is recognised, its media type is useless to a player.
  const isHere = session.size_bytes !== null;
  // With a privacy setting, nothing of the recording is served before the end.
  const isServed = session.privacy === "keep" || isFinished(session);
  if (isServed && isHere && (session.container !== null || isFinished(session))) offerSound();
  if (isServed && DECODED.has(session.state)) once("spectrogram", fetchSpectrogram);
}

function showProgress() {
  const finished = isFinished(session);
  ids("progress").hidden = finished;
  if (finished) return;
  ids("stage").textContent = `${sentence(session.stage)}, ${session.percent} %`;
  ids("bar").value = session.percent;
  ids("pace").textContent = [
    session.speed && `${session.speed.toFixed(session.speed < 10 ? 1 : 0)} times as fast as it plays`,
    session.time_left_s !== null && `about ${clock(session.time_left_s, 0)} left`,
  ].filter(Boolean).join(", ");
  say(ids("status"), sentence(session.stage));
}

/** Show the results of a finished session. */
async function finish(signal) {
  const [events, measured] = await Promise.all([
    api.all(`${path}/detections`, signal),
    api.jsonOrNull(`${path}/levels`, signal),
  ]);
  levels = measured;
  styles = stylesOf(events.map((event) => event.noise_type));
  const problem = session.problem;
  const ending = {
    completed: `Finished: ${count(events.length, "event")}`,
    partial: `Partly finished: ${count(events.length, "event")}`,
    failed: "The session failed",
    cancelled: "The session was cancelled",
  }[session.state];
  if (session.state !== "completed" || problem) {
    const why = problem?.detail ?? "There are no results.";
    const missing = problem?.missing ?? [];
    showTrouble(ids, ending, closed(why), {
      list: missing.map((part) =>
        `${clock(part.start_s)} to ${clock(part.end_s)}: ${part.reason}`),
    });
  }
  const heard = session.state === "completed" || session.state === "partial";
  ids("events").hidden = !heard;
  if (heard) {
    ids("legend").textContent = legend(levels);
    table.show(events, styles, session.summary.level_reference);
  }
  say(ids("status"), ending);
}

function isOverloaded(summary) {
  return summary.overload?.overloaded_s > 0;
}

function draw() {
  if (!session?.duration_s) return;
  const missing = session.problem?.missing ?? [];
  picture.show({ duration_s: session.duration_s, missing, events: shown, styles, levels });
  player.duration = session.duration_s;
  ids("position").max = Math.ceil(endOf(session.duration_s, missing) * 10) / 10;
  picture.position = player.position;
  picture.choose(chosen);
}

function choose(event) {
  chosen = event;
  picture.choose(event);
  table?.choose(event);
}

function readOut(seconds) {
  if (!session?.duration_s) return;
  const parts = [`${clock(seconds)} of ${clock(session.duration_s)}`];
  const second = Math.floor(seconds);
  if (levels && second < levels.series.laeq_db.length) {
    const { laeq_db: laeq, lafmax_db: lafmax, overloaded } = levels.series;
    parts.push(`LAeq ${bound(laeq[second], overloaded?.[second])}`,
      `LAFmax ${bound(lafmax[second], overloaded?.[second])} ${levels.level_reference}`);
  }
  const here = shown.filter((event) => event.start_s <= seconds && seconds < event.end_s);
  parts.push(...here.map((event) => `${typeName(event.noise_type)} ${percent(event.confidence)}`));
  ids("readout").textContent = parts.join(" · ");
  ids("position").setAttribute("aria-valuetext", parts.join(", "));
}

function once(what, work) {
  if (asked.has(what)) return;
  asked.add(what);
  const { signal } = opened;
  work(signal).catch((error) => {
    if (!signal.aborted) soundNote(`The ${what} could not be fetched: ${error.message}.`);
  });
}

async function fetchSpectrogram(signal) {
  try {
    picture.image = await urlOf("spectrogram.png", signal);
  } catch (error) {
    // With privacy=discard_audio there is no spectrogram: draw events on an empty background.
    if (!(error instanceof Refusal && error.status === 404)) throw error;
  }
}

function offerSound() {
  if (session.size_bytes <= SOUND_BYTES) {
    fetchSound();
  } else if (!asked.has("recording")) {
    ids("fetch-sound").textContent = `Load the recording to play it (${bytes(session.size_bytes)})`;
    ids("fetch-sound").hidden = false;
  }
}

function fetchSound() {
  ids("fetch-sound").hidden = true;
  once("recording", async (signal) => {
    const url = await urlOf("recording", signal);
    player.sound = url;
    ids("download").href = url;
    ids("download").download = session.privacy === "keep"
      ? session.file_name : `${session.file_name.replace(/\.[^.]*$/, "")}.flac`;
    ids("download").hidden = false;
  });
}

/** Fetch a file into memory, and return an object URL for it. */
async function urlOf(what, signal) {
  const response = await api.get(`${path}/${what}`, signal);
  const url = URL.createObjectURL(await response.blob());
  urls.push(url);
  return url;
}

function soundNote(what) {
  ids("sound-note").textContent = what;
  ids("sound-note").hidden = false;
}

function showFacts() {
  const summary = session.summary;
  const db = (value) => `${level(value)} ${summary.level_reference}`;
  const facts = [
    ["State", sentence(session.state)],
    ["Format", session.container && `${session.container} (${session.codec})`],
    ["Sampling", session.rate_hz
      && `${(session.rate_hz / 1000).toLocaleString("en")} kHz, ${count(session.n_channels, "channel")}`],
    ["Channels", summary?.channels && channelStates(summary.channels)],
    ["Audio begins", summary?.audio_begins_s > 0 && `${clock(summary.audio_begins_s)} after the file`],
    ["Length", session.duration_s !== null && clock(session.duration_s)],
    ["Size", session.size_bytes !== null && bytes(session.size_bytes)],
    ["Privacy", PRIVACY[session.privacy]],
    ["Fetched from", session.source_url],
    ["Recorded", session.recorded_at && moment(session.recorded_at, session.time_zone)],
    ["Time from", sourceOf(session.recorded_at_source)],
    ["Received", moment(session.created_at)],
    ["Finished", session.finished_at && moment(session.finished_at)],
    ["Calibration", session.calibration_db !== null
      && `0 dBFS is ${decibels(session.calibration_db.toFixed(2))} dB SPL`],
    ["Overload", summary && isOverloaded(summary)
      && `${summary.overload.overloaded_s.toFixed(2)} s, first at ${
        clock(summary.overload.first_s)}: all levels are lower bounds`],
    ["Under-range", summary?.under_range?.under_range_s > 0
      && `${percent(summary.under_range.share)} of the time below ${
        decibels(summary.under_range.limit_db.toFixed(1))} dB: upper bounds, too high by over 0.8 dB`],
    ["LAeq", summary && db(summary.laeq_db)],
    ["LAFmax", summary && db(summary.lafmax_db)],
    ["LCpeak", summary && db(summary.lcpeak_db)],
    ["L10, L50, L90", summary
      && `${level(summary.l10_db)}, ${level(summary.l50_db)}, ${db(summary.l90_db)}`],
    ["Model", summary && `${summary.model.name} ${summary.model.version}`],
    ["Session", session.id],
    // The sender's metadata, under the sender's names.
    ...Object.entries(session.metadata).map(([name, value]) =>
      [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ].filter(([, value]) => value);
  ids("about").hidden = false;
  ids("facts").replaceChildren(...facts.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const told = document.createElement("dd");
    term.textContent = name;
    told.textContent = value;
    pair.append(term, told);
    return pair;
  }));
}
