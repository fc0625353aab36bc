// The start page: sends recordings, and lists sessions.

import { Api, Refusal } from "./api.js";
import { ids } from "./dom.js";
import { KeyForm } from "./key.js";
import { SessionList } from "./list.js";
import { Reports } from "./reports.js";
import { closed, sentence } from "./text.js";
import { hideTrouble, showTrouble } from "./trouble.js";
import { Uploads } from "./uploads.js";

/** Parts that only signed-in users see. */
const PARTS = ["send", "list", "report", "to-report"];

let opened = new AbortController();

const list = new SessionList(ids, { onWell: () => hideTrouble(ids), onTrouble: refuse });
const uploads = new Uploads(ids, () => list.load());
const reports = new Reports(ids);
const keyForm = new KeyForm(ids, { onOpen: open, onForget: reset });
ids("again").addEventListener("click", () => list.load());
ids("trouble-clear").addEventListener("click", () => list.clearFilters());

keyForm.open();

/** Show everything that a key may see. */
async function open(key) {
  reset();
  const { signal } = opened;
  const api = new Api(key);
  const [maxBytes] = await Promise.all([limit(), list.open(api, signal)]);
  // The key was not accepted, or another one was entered meanwhile.
  if (signal.aborted) return;
  uploads.open(api, signal, maxBytes);
  reports.open(api, signal);
  for (const part of PARTS) ids(part).hidden = false;
}

/** Remove everything that was shown for a key. */
function reset() {
  opened.abort();
  opened = new AbortController();
  hideTrouble(ids);
  for (const part of PARTS) ids(part).hidden = true;
}

/** Return the server's size limit of a recording in bytes; Infinity if it cannot be fetched. */
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
