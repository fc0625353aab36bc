// Elements of the page.

/** Return the element with an ID. */
export const ids = (id) => document.getElementById(id);

/** Create an element with properties. Strings among its children become text nodes, never HTML. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Set an element's text only if it changes, so that screen readers do not repeat it. */
export function say(where, what) {
  if (where.textContent !== what) where.textContent = what;
}
