// Remedies for refusals, from the API's documentation.

let remedies = null;

/** Return the remedy for a Refusal, or "". All remedies are fetched with the first refusal. */
export async function remedyOf(refusal) {
  if (refusal.kind === null) return "";
  try {
    remedies ??= fetch("/page/remedies.json").then((response) => response.json());
    return (await remedies)[refusal.kind] ?? "";
  } catch {
    // The server is unreachable: retry with the next refusal.
    remedies = null;
    return "";
  }
}
