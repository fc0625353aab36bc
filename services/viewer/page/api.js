// Requests to the API with the key of this tab.

/** A failed request: the problem in the response, or status 0 without a response. */
export class Refusal extends Error {
  constructor(status, problem, retryAfter = null) {
    super(problem.detail || problem.title || `The server answered with ${status}`);
    this.status = status;
    this.title = problem.title || "The request failed";
    /** The name of the problem, as in `/problems/{name}`, or null. */
    this.kind = /^\/problems\/([a-z-]+)$/.exec(problem.type)?.[1] ?? null;
    /** Seconds of the Retry-After header, or null. */
    this.retryAfter_s = /^\d+$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
  }

  /** Whether the same request may succeed later, without any change. */
  get isPassing() {
    return this.status < 400 || this.status >= 500 || this.status === 429;
  }
}

export class Api {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** Return the response to a GET; throw a Refusal unless it succeeded. */
  get(path, signal) {
    return this.#fetch(path, { signal });
  }

  async json(path, signal) {
    const response = await this.get(path, signal);
    try {
      return await response.json();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refusal(0, { detail: "The response is incomplete or not JSON" });
    }
  }

  /** Return the JSON response to a GET, or null if there is nothing (yet): 404 or 409. */
  async jsonOrNull(path, signal) {
    try {
      return await this.json(path, signal);
    } catch (error) {
      if (error instanceof Refusal && (error.status === 404 || error.status === 409)) return null;
      throw error;
    }
  }

  /** Return all items of a list, fetched page by page. */
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

  /** Return the JSON response to a POST of JSON. */
  async post(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    const response = await this.#fetch(
      path, { method: "POST", body: JSON.stringify(body), headers, signal });
    return response.json();
  }

  /**
   * Return the JSON response to a POST of a file. `onProgress` gets the bytes sent so far: only
   * XMLHttpRequest reports them.
   */
  send(path, file, { headers, onProgress, signal }) {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const request = new XMLHttpRequest();
      request.open("POST", path);
      for (const [name, value] of Object.entries({ ...headers, ...this.#headers })) {
        request.setRequestHeader(name, value);
      }
      request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
      request.addEventListener("load", () => {
        const answer = read(request.responseText);
        if (request.status >= 200 && request.status < 300) resolve(answer);
        else reject(new Refusal(request.status, answer, request.getResponseHeader("Retry-After")));
      });
      request.addEventListener("error", () => reject(new Refusal(0, {
        title: "The upload was interrupted",
        detail: "Check that the server is running and that the file still exists",
      })));
      request.addEventListener("abort", () => reject(signal.reason));
      signal.addEventListener("abort", () => request.abort(), { once: true });
      request.send(file);
    });
  }

  get #headers() {
    return { Authorization: `Bearer ${this.#key}` };
  }

  async #fetch(path, { headers = {}, signal, ...options }) {
    let response;
    try {
      response = await fetch(path, {
        ...options, signal, headers: { ...headers, ...this.#headers }, credentials: "omit",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refusal(
        0, { title: "The server does not respond", detail: "Check that it is running" });
    }
    if (response.ok) return response;
    const problem = read(await response.text());
    throw new Refusal(response.status, problem, response.headers.get("Retry-After"));
  }
}

/** Parse a JSON object; return an empty one for anything else, such as a proxy's page. */
function read(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
