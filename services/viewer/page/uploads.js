// Recordings that are dropped on the page or chosen: sent two at a time, then followed.

import { Refusal } from "./api.js";
import { say } from "./dom.js";
import { bytes, count } from "./text.js";
import { Upload } from "./upload.js";
import { Follower, isFinished, pause } from "./watch.js";

/** Browsers open six connections to one server, and the rest of the page needs some. */
const AT_ONCE = 2;
/** Most attempts of an upload that the server defers. */
const TRIES = 5;

export class Uploads {
  #ids;
  #onChange;
  #api = null;
  #signal = null;
  #follower = null;
  #maxBytes = Infinity;
  #uploads = [];

  /** `onChange` is called when a session is created or has finished. */
  constructor(ids, onChange) {
    this.#ids = ids;
    this.#onChange = onChange;
    ids("choose").addEventListener("click", () => ids("files").click());
    ids("files").addEventListener("change", () => {
      this.#add([...ids("files").files]);
      // Allow choosing the same file again.
      ids("files").value = "";
    });
    ids("clear-uploads").addEventListener("click", () => this.#clear());
    this.#takeDrops();
    addEventListener("beforeunload", (event) => {
      if (this.#has("waiting", "sending")) event.preventDefault();
    });
  }

  /** Send with a key, until the signal aborts. `maxBytes` is the server's size limit. */
  open(api, signal, maxBytes) {
    this.#api = api;
    this.#signal = signal;
    this.#follower = new Follower(api, signal);
    this.#maxBytes = maxBytes;
    this.#uploads = [];
    this.#ids("uploads").replaceChildren();
    this.#ids("limit").textContent =
      maxBytes === Infinity ? "" : `, up to ${bytes(maxBytes)} each`;
    this.#count();
  }

  #takeDrops() {
    const zone = this.#ids("drop");
    const hasFiles = (event) => event.dataTransfer.types.includes("Files");
    // Handle drops anywhere: outside the zone, the browser would leave the page and open the file.
    addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = this.#isOpen ? "copy" : "none";
      zone.classList.add("over");
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) zone.classList.remove("over");
    });
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      zone.classList.remove("over");
      if (this.#isOpen) this.#add(filesOf(event.dataTransfer));
    });
  }

  get #isOpen() {
    return this.#signal !== null && !this.#signal.aborted;
  }

  #has(...states) {
    return this.#isOpen && this.#uploads.some((upload) => states.includes(upload.state));
  }

  #add(files) {
    const added = files.map((file) => new Upload(file, {
      onAgain: (upload) => this.#again(upload),
      onCancel: (upload) => {
        upload.cancel();
        this.#go();
      },
    }));
    this.#uploads.push(...added);
    this.#ids("uploads").append(...added.map((upload) => upload.line));
    for (const upload of added) this.#check(upload);
    this.#go();
  }

  /** Refuse files that the server would refuse, before sending them. */
  #check(upload) {
    const { file } = upload;
    if (file.isFolder) {
      upload.refuse(local("This is a folder", "Choose the recordings in it instead"));
    } else if (file.size === 0) {
      upload.refuse(local("The file is empty", "Choose a recording with sound in it"));
    } else if (file.size > this.#maxBytes) {
      upload.refuse(local("The file is too large", `It has ${bytes(file.size)}; the limit is`
        + ` ${bytes(this.#maxBytes)}. Cut it into parts, or encode it as FLAC`));
    }
  }

  #again(upload) {
    upload.wait();
    this.#check(upload);
    this.#go();
  }

  /** Start as many waiting uploads as may run at once. */
  #go() {
    const sending = this.#uploads.filter((upload) => upload.state === "sending").length;
    const waiting = this.#uploads.filter((upload) => upload.state === "waiting");
    for (const upload of waiting.slice(0, Math.max(AT_ONCE - sending, 0))) this.#send(upload);
    this.#count();
  }

  async #send(upload) {
    const signal = AbortSignal.any([this.#signal, upload.begin()]);
    try {
      const session = await this.#post(upload, signal);
      this.#shown(upload, session);
      if (!isFinished(session)) {
        this.#follower.follow(session.id, {
          onChange: (next) => this.#shown(upload, next),
          onLost: (refusal) => this.#refused(upload, refusal),
        });
      }
      this.#onChange();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      this.#refused(upload, error);
      // A missing permission or an exceeded quota applies to the other uploads, too.
      if (error.status === 401 || error.status === 403) this.#refuseWaiting(error);
    }
    this.#go();
  }

  async #post(upload, signal) {
    const { file } = upload;
    const headers = { "Content-Type": mediaTypeOf(file), "Idempotency-Key": upload.key };
    const path = `/v1/sessions?file_name=${encodeURIComponent(file.name)}`;
    const onProgress = (n_bytes) => upload.sent(n_bytes);
    for (let tried = 1; ; tried += 1) {
      try {
        return await this.#api.send(path, file, { headers, onProgress, signal });
      } catch (error) {
        const wait_s = error.retryAfter_s ?? null;
        if (signal.aborted || wait_s === null || tried === TRIES) throw error;
        upload.rest(wait_s);
        await pause(wait_s * 1000, signal);
      }
    }
  }

  #shown(upload, session) {
    upload.show(session);
    if (isFinished(session)) this.#onChange();
    this.#count();
  }

  #refused(upload, refusal) {
    upload.refuse(refusal);
    this.#count();
  }

  #refuseWaiting(refusal) {
    for (const upload of this.#uploads) {
      if (upload.state === "waiting") upload.refuse(refusal);
    }
  }

  #clear() {
    const over = this.#uploads.filter((upload) => upload.isOver);
    this.#uploads = this.#uploads.filter((upload) => !upload.isOver);
    for (const upload of over) upload.line.remove();
    this.#count();
    this.#ids("choose").focus();
  }

  /** Show the progress of all uploads in one line. */
  #count() {
    const of = (...states) =>
      this.#uploads.filter((upload) => states.includes(upload.state)).length;
    const parts = [
      [of("waiting", "sending"), "to send"],
      [of("processing"), "in progress"],
      [of("done"), "finished"],
      [of("refused"), "refused"],
      [of("cancelled"), "cancelled"],
    ].filter(([number]) => number).map(([number, what]) => `${number} ${what}`);
    say(this.#ids("upload-status"),
      parts.length ? `${count(this.#uploads.length, "recording")}: ${parts.join(", ")}` : "");
    this.#ids("clear-uploads").hidden = !this.#uploads.some((upload) => upload.isOver);
  }
}

/** Return the files of a drop. Only an item's entry shows whether it is a folder. */
function filesOf(transfer) {
  return [...transfer.items].filter((item) => item.kind === "file").map((item) => {
    const isFolder = item.webkitGetAsEntry?.()?.isDirectory ?? false;
    const file = item.getAsFile();
    return isFolder ? { name: file.name, size: 0, isFolder } : file;
  });
}

/** Return a media type that is never a form or JSON: the server detects the format by content. */
function mediaTypeOf(file) {
  return file.type.startsWith("audio/") ? file.type : "application/octet-stream";
}

function local(title, detail) {
  return new Refusal(0, { title, detail });
}
