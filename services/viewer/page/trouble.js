// The error note at the top of a page.

import { element } from "./dom.js";

/** Show the note; `list` has more lines, and `again` shows the retry button. */
export function showTrouble(ids, title, detail, { list = [], again = false } = {}) {
  ids("trouble-title").textContent = title;
  ids("trouble-detail").textContent = detail;
  ids("trouble-list").replaceChildren(...list.map((line) => element("li", {}, line)));
  ids("trouble-list").hidden = !list.length;
  ids("again").hidden = !again;
  ids("trouble").hidden = false;
}

export function hideTrouble(ids) {
  ids("trouble").hidden = true;
}
