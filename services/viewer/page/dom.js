// Elements of the page.

/** The element of an id. */
export const ids = (id) => document.getElementById(id);

/** An element with its properties. Texts among its children stay texts, whatever they contain. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Give a text to an element only if it changes, so that a screen reader does not repeat it. */
export function say(where, what) {
  if (where.textContent !== what) where.textContent = what;
}
