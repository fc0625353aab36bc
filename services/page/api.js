// The API, as somebody calls it who shows a key.

/** Why something was not answered: the problem that the API told, or that it did not answer. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The server answered with ${status}`);
    this.status = status;
    this.title = problem.title || "The server cannot answer";
  }
}

export class Api {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** The response to a GET; raises a Refusal unless it is a good one. */
  async get(path, signal) {
    let response;
    try {
      response = await fetch(path, {
        headers: { Authorization: `Bearer ${this.#key}` },
        credentials: "omit",
        signal,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refusal(0, { title: "The server does not answer", detail: "Is it running?" });
    }
    if (!response.ok) throw new Refusal(response.status, await problemOf(response));
    return response;
  }

  async json(path, signal) {
    return (await this.get(path, signal)).json();
  }

  /** The same where there may be nothing: null then. */
  async jsonOrNull(path, signal) {
    try {
      return await this.json(path, signal);
    } catch (error) {
      if (error instanceof Refusal && (error.status === 404 || error.status === 409)) return null;
      throw error;
    }
  }

  /** All items of a list, page by page. */
  async all(path, signal) {
    const items = [];
    let cursor = null;
    do {
      const more = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await this.json(`${path}?limit=1000${more}`, signal);
      items.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor !== null);
    return items;
  }
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}
