// What can be done about a refusal, in the words of the API's own documentation.

let remedies = null;

/** The advice for a Refusal; empty if there is none. It is fetched with the first refusal. */
export async function remedyOf(refusal) {
  if (refusal.kind === null) return "";
  try {
    remedies ??= fetch("/page/remedies.json").then((response) => response.json());
    return (await remedies)[refusal.kind] ?? "";
  } catch {
    // The server is away: the next refusal asks again.
    remedies = null;
    return "";
  }
}
