// Styles that distinguish noise types by a letter, a colour and a pattern, so that no single one of
// these has to be recognised.

/** Distinct for any colour vision (Okabe and Ito), and light enough for a dark spectrogram. */
const COLOURS = [
  "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#3d9be0", "#bbbbbb",
];
/** Patterns drawn on the colour, in a tile of 8 by 8; and the dashes of an outline. */
const PATTERNS = [
  { path: "", dashes: "" },
  { path: "M-2 2 2-2M0 8 8 0M6 10 10 6", dashes: "7 3" },
  { path: "M4 0V8", dashes: "2 2" },
  { path: "M0 4H8", dashes: "9 3 2 3" },
  { path: "M-2 6 2 10M0 0 8 8M6-2 10 2", dashes: "5 5" },
];
const SVG = "http://www.w3.org/2000/svg";

/** Create an SVG element with attributes. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Return the style of each noise type by name, in alphabetical order. */
export function stylesOf(noiseTypes) {
  const names = [...new Set(noiseTypes)].sort();
  return new Map(names.map((name, index) => {
    const pattern = index % PATTERNS.length;
    return [name, {
      code: index < 26 ? String.fromCharCode(65 + index) : String(index + 1),
      colour: COLOURS[index % COLOURS.length],
      path: PATTERNS[pattern].path,
      dashes: PATTERNS[pattern].dashes,
      fill: `url(#fill-${index})`,
      id: `fill-${index}`,
    }];
  }));
}

/** Return the definitions that the fills of styles refer to. */
export function definitions(styles) {
  return svg("defs", {}, ...[...styles.values()].map((style) =>
    svg("pattern", { id: style.id, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: 8, height: 8, fill: style.colour }),
      svg("path", { d: style.path, stroke: "#000000", "stroke-width": 1.5, fill: "none" }))));
}

/** Return a small sample of a style. The picture's definitions apply to the whole document. */
export function swatch(style) {
  return svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" },
    svg("rect", { x: 1, y: 1, width: 24, height: 12, fill: style.fill, class: "bar" }));
}
