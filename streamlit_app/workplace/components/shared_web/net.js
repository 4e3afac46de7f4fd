// Requests to the routes of the workplace, and pictures with at most four on their way at once.

// What the server refused: `status` and `code` of the answer; `code` is "" where it was no answer of ours.
class Refused extends Error {
  constructor(status, body) {
    super((body && body.error) || "");
    this.status = status;
    this.code = (body && body.code) || "";
  }

  // Whether sending the same again may help: the server or its database was away or had too much to do,
  // or something between answered for it. What it refuses itself, it refuses again.
  get passing() {
    if (this.status === 401) return false;
    return this.code === "" || this.status >= 500 || [408, 425, 429].includes(this.status);
  }
}

class Net {
  constructor(token, base = "") {
    this.token = token;
    this.base = base;
  }

  async ask(method, path, { json, body, headers, signal, cache = "no-store" } = {}) {
    const sent = { "X-Allkit-Session": this.token, ...headers };
    if (json !== undefined) sent["Content-Type"] = "application/json";
    const answer = await fetch(this.base + path, {
      method,
      headers: sent,
      body: json === undefined ? body : JSON.stringify(json),
      signal,
      credentials: "omit",
      cache, // what is said of a patient stays out of the browser's cache; pictures follow the server
    });
    if (!answer.ok && answer.status !== 304) {
      throw new Refused(answer.status, await answer.json().catch(() => null));
    }
    return answer;
  }

  async json(method, path, options) {
    return (await this.ask(method, path, options)).json();
  }
}

const AT_ONCE = 4;
const LARGE_KEPT = 24;

// Pictures as blob addresses. The one that is looked at goes before those that only scroll by.
class Pictures {
  constructor(net) {
    this.net = net;
    this.known = new Map();
    this.large = [];
    this.waiting = [];
    this.running = 0;
    this.closed = new AbortController();
  }

  url(path) {
    const known = this.known.get(path);
    return known ? known.url : undefined;
  }

  get(path, { first = false, large = false } = {}) {
    const known = this.known.get(path);
    if (known) {
      if (first && this.waiting.includes(known)) this.waiting = [known, ...this.waiting.filter((w) => w !== known)];
      return known.promise;
    }
    const job = { path, large };
    job.promise = new Promise((good, bad) => Object.assign(job, { good, bad }));
    this.known.set(path, job);
    if (first) this.waiting.unshift(job);
    else this.waiting.push(job);
    this.next();
    return job.promise;
  }

  // What left the screen before its turn came need not be fetched.
  forget(path) {
    const job = this.known.get(path);
    if (!job || !this.waiting.includes(job)) return;
    this.waiting = this.waiting.filter((waiting) => waiting !== job);
    this.known.delete(path);
    job.bad(new DOMException("left the screen", "AbortError"));
  }

  next() {
    while (this.running < AT_ONCE && this.waiting.length) this.fetch(this.waiting.shift());
  }

  async fetch(job) {
    this.running += 1;
    try {
      const answer = await this.net.ask("GET", job.path, { signal: this.closed.signal, cache: "default" });
      const url = URL.createObjectURL(await answer.blob());
      if (this.closed.signal.aborted) {
        URL.revokeObjectURL(url);
        throw new DOMException("left the page", "AbortError");
      }
      job.url = url;
      if (job.large) this.keep(job);
      job.good(url);
    } catch (error) {
      if (this.known.get(job.path) === job) this.known.delete(job.path);
      job.bad(error);
    } finally {
      this.running -= 1;
      if (!this.closed.signal.aborted) this.next();
    }
  }

  keep(job) {
    this.large.push(job);
    while (this.large.length > LARGE_KEPT) {
      const old = this.large.shift();
      this.known.delete(old.path);
      URL.revokeObjectURL(old.url);
    }
  }

  close() {
    this.closed.abort();
    for (const job of this.known.values()) if (job.url) URL.revokeObjectURL(job.url);
    this.known.clear();
    this.waiting = [];
  }
}
