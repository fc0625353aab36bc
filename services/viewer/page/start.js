// The start page: sends recordings, and lists the sessions that they have become.

import { Api, Refusal } from "./api.js";
import { ids } from "./dom.js";
import { KeyForm } from "./key.js";
import { SessionList } from "./list.js";
import { Reports } from "./reports.js";
import { closed, sentence } from "./text.js";
import { hideTrouble, showTrouble } from "./trouble.js";
import { Uploads } from "./uploads.js";

/** What only a signed-in user sees. */
const PARTS = ["send", "list", "report", "to-report"];

let opened = new AbortController();

const list = new SessionList(ids, { onWell: () => hideTrouble(ids), onTrouble: refuse });
const uploads = new Uploads(ids, () => list.load());
const reports = new Reports(ids);
const keyForm = new KeyForm(ids, { onOpen: open, onForget: reset });
ids("again").addEventListener("click", () => list.load());
ids("trouble-clear").addEventListener("click", () => list.clearFilters());

keyForm.open();

/** Show what a key may see. */
async function open(key) {
  reset();
  const { signal } = opened;
  const api = new Api(key);
  const [maxBytes] = await Promise.all([limit(), list.open(api, signal)]);
  // The key was not taken, or another one was given meanwhile.
  if (signal.aborted) return;
  uploads.open(api, signal, maxBytes);
  reports.open(api, signal);
  for (const part of PARTS) ids(part).hidden = false;
}

/** Remove all that a key has shown. */
function reset() {
  opened.abort();
  opened = new AbortController();
  hideTrouble(ids);
  for (const part of PARTS) ids(part).hidden = true;
}

/** The most bytes of a recording that the server takes; without an answer, none are too many. */
async function limit() {
  try {
    const response = await fetch("/", { headers: { Accept: "application/json" } });
    return (await response.json()).limits.max_upload_bytes;
  } catch {
    return Infinity;
  }
}

function refuse(error) {
  if (!(error instanceof Refusal)) throw error;
  if (keyForm.replace(error)) return;
  const isBad = error.status === 400;
  ids("trouble-clear").hidden = !isBad;
  showTrouble(ids, error.title, closed(sentence(error.message)), { again: !isBad });
}
