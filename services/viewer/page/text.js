// What numbers look like to a person.

/** Seconds as a clock; `decimals` of a second. */
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

/** A level; null is silence. */
export function level(db) {
  return db === null || db === undefined ? "silent" : decibels(db.toFixed(1));
}

/** A number of dB, with the sign that is one. */
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

/** A moment on the clocks of a time zone; of this browser's, if there is none that it knows. */
export function moment(iso, timeZone = null) {
  const style = { dateStyle: "medium", timeStyle: "medium" };
  try {
    if (timeZone) return `${new Date(iso).toLocaleString(undefined, { ...style, timeZone })} (${timeZone})`;
  } catch {
    // Not every browser knows every zone.
  }
  return new Date(iso).toLocaleString(undefined, style);
}

export function count(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

/** Words with a capital letter at their start. */
export function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A sentence with a mark at its end. */
export function closed(words) {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
