// Sentences about a session: its picture, its channels, and the source of its recording time.

/** Source of the recording time, if its caller did not give it. */
const SOURCES = {
  guano: "GUANO metadata",
  bext: "broadcast metadata",
  ixml: "iXML metadata",
  comment: "the recorder's comment",
  wamd: "Wildlife Acoustics metadata",
  tag: "a tag",
  file_name: "the file name",
  creation_time: "the creation time of the file",
};
const SPECTROGRAM = "Spectrogram: lighter is louder, down to 75 dB below the loudest.";

/** Returns the legend of the picture; `levels` is null if they are missing. */
export function legend(levels) {
  if (!levels) return SPECTROGRAM;
  const { level_reference: reference, series } = levels;
  return [
    SPECTROGRAM,
    `Level: LAeq (thick line) and LAFmax (dashed) of each second, in ${reference}.`,
    series.overloaded?.includes(true)
      && "Bars at the top mark overload: these levels are lower bounds.",
    series.under_range?.includes(true)
      && "Lines at the bottom mark under-range: these levels are upper bounds.",
  ].filter(Boolean).join(" ");
}

/** Returns the source of the recording time; null if its caller gave it. */
export function sourceOf(source) {
  const origin = SOURCES[source?.from];
  if (!origin) return null;
  return source.zone === "assumed_utc" ? `${origin}, assumed to be in UTC` : origin;
}

/** Returns which channels are used, and which are silent, identical or inverted. */
export function channelStates(states) {
  return Object.entries(states).filter(([, channels]) => channels.length)
    .map(([state, channels]) => `${channels.join(", ")} ${state}`).join("; ");
}
