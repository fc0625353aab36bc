// The API key of this tab: entered once, shared by all pages, and forgotten with the tab.

import { closed } from "./text.js";

const KEY = "clamor-key";

export class KeyForm {
  #ids;
  #onOpen;
  #onForget;

  /** `onOpen` gets a key and returns a promise; `onForget` removes all data shown for a key. */
  constructor(ids, { onOpen, onForget }) {
    this.#ids = ids;
    this.#onOpen = onOpen;
    this.#onForget = onForget;
    ids("key-form").addEventListener("submit", (event) => this.#submit(event));
    ids("other-key").addEventListener("click", () => this.#ask(""));
  }

  /** Open the page with the key of this tab, or ask for one. */
  open() {
    const kept = sessionStorage.getItem(KEY);
    if (kept === null) {
      this.#ask("");
      return;
    }
    this.#open(kept);
  }

  /** Ask for another key if a request failed because of this one; return whether it did. */
  replace(error) {
    if (error.status !== 401 && error.status !== 403) return false;
    const what = error.status === 401 ? "The key was not accepted" : "The key does not allow this";
    this.#ask(`${what}: ${closed(error.message)}`);
    return true;
  }

  async #submit(event) {
    event.preventDefault();
    const field = this.#ids("key");
    const key = field.value.trim();
    field.value = "";
    sessionStorage.setItem(KEY, key);
    await this.#open(key);
    // The focused field is gone, unless the form is shown again.
    if (this.#ids("key-form").hidden) this.#ids("title").focus();
  }

  #open(key) {
    this.#ids("key-form").hidden = true;
    this.#ids("other-key").hidden = false;
    return this.#onOpen(key);
  }

  #ask(why) {
    sessionStorage.removeItem(KEY);
    this.#onForget();
    this.#ids("other-key").hidden = true;
    this.#ids("key-form").hidden = false;
    this.#ids("key-refused").hidden = !why;
    this.#ids("key-refused").textContent = why;
    this.#ids("key").focus();
  }
}
