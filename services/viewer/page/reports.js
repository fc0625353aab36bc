// The report of a day: requested, awaited, and offered as a download.
//
// A report's request needs the key, so a plain link cannot open it. A page opened from this page's
// memory would inherit its content security policy, which forbids the report's inline style.

import { Refusal } from "./api.js";
import { say } from "./dom.js";
import { remedyOf } from "./remedies.js";
import { closed, sentence } from "./text.js";
import { pause } from "./watch.js";

const PAUSE_MS = 1000;
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export class Reports {
  #ids;
  #api = null;
  #signal = null;
  #url = null;

  constructor(ids) {
    this.#ids = ids;
    ids("report-zone").textContent = ZONE;
    ids("report-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make(ids("report-day").value);
    });
  }

  open(api, signal) {
    this.#api = api;
    this.#signal = signal;
    const yesterday = new Date();
    yesterday.setDate(yesterday.getDate() - 1);
    this.#ids("report-day").value = localDay(yesterday);
    this.#ids("report-day").max = localDay(new Date());
    this.#offer(null);
    say(this.#ids("report-status"), "");
  }

  async #make(day) {
    const signal = this.#signal;
    this.#ids("report-make").disabled = true;
    this.#offer(null);
    say(this.#ids("report-status"), "The report is being created.");
    try {
      let report = await this.#api.post("/v1/reports", { day, time_zone: ZONE }, signal);
      while (report.state === "pending") {
        await pause(PAUSE_MS, signal);
        report = await this.#api.json(`/v1/reports/${report.id}`, signal);
      }
      if (report.state === "completed") await this.#fetch(report, signal);
      else throw new Refusal(0, { title: "The report failed", detail: report.problem?.detail });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      const remedy = await remedyOf(error);
      say(this.#ids("report-status"),
        [error.title, sentence(error.message), remedy].filter(Boolean).map(closed).join(" "));
    } finally {
      this.#ids("report-make").disabled = false;
    }
  }

  async #fetch({ id, day }, signal) {
    const response = await this.#api.get(`/v1/reports/${id}/html`, signal);
    this.#offer(URL.createObjectURL(await response.blob()), day);
    say(this.#ids("report-status"), "The report is ready.");
  }

  #offer(url, day = "") {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = url;
    const link = this.#ids("report-link");
    this.#ids("report-link-line").hidden = url === null;
    if (url === null) {
      link.removeAttribute("href");
      return;
    }
    link.href = url;
    link.download = `clamor-report-${day}.html`;
    link.textContent = `Download the report of ${day}`;
  }
}

/** Return a day in the browser's time zone as YYYY-MM-DD. */
function localDay(date) {
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()]
    .map((number) => String(number).padStart(2, "0")).join("-");
}
