// Formatting of numbers, times and words.

/** Format seconds as clock time, with `decimals` of a second. */
export function clock(seconds, decimals = 1) {
  const unit = 10 ** decimals;
  const whole = Math.round(seconds * unit);
  const rest = (whole % (60 * unit)) / unit;
  const minutes = Math.floor(whole / (60 * unit));
  const last = rest.toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  if (minutes < 60) return `${minutes}:${last}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${last}`;
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** Format a level; null is silence. */
export function level(db) {
  return db === null || db === undefined ? "silent" : decibels(db.toFixed(1));
}

/** Format a level, which is a lower bound if it contains overload. */
export function bound(db, overloaded) {
  return overloaded && typeof db === "number" ? `\u2265 ${level(db)}` : level(db);
}

/** Format a number of dB with a true minus sign. */
export function decibels(number) {
  return String(number).replace("-", "\u2212");
}

export function typeName(noiseType) {
  return noiseType.replaceAll("_", " ");
}

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB"];
  let index = 0;
  let size = count;
  while (size >= 1000 && index < units.length - 1) {
    size /= 1000;
    index += 1;
  }
  return `${index && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[index]}`;
}

/** Format a time in a time zone; without a supported one, in the browser's. */
export function moment(iso, timeZone = null) {
  const style = { dateStyle: "medium", timeStyle: "medium" };
  try {
    if (timeZone) return `${new Date(iso).toLocaleString(undefined, { ...style, timeZone })} (${timeZone})`;
  } catch {
    // Not every browser supports every time zone.
  }
  return new Date(iso).toLocaleString(undefined, style);
}

export function count(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

/** Capitalise the first letter. */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Add a full stop unless there is a final punctuation mark. */
export function closed(words) {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
