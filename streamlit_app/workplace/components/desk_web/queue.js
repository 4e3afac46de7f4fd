// The readings on their way to the server: kept in order until the server says that they are saved.

const BATCH = 50;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15000;

class Queue {
  // One queue for each reader and case; another reader in the same tab never sends what is not theirs.
  static of(net, user, case_) {
    const { queues } = registry();
    const name = `allkit.desk.${user}.${case_}`;
    if (!queues.has(name)) queues.set(name, new Queue(net, name, case_));
    const queue = queues.get(name);
    queue.net = net;
    queue.wake();
    return queue;
  }

  constructor(net, name, case_) {
    this.net = net;
    this.name = name;
    this.case = case_;
    this.client = crypto.randomUUID ? crypto.randomUUID() : randomName();
    this.seq = 0;
    this.batch = BATCH;
    this.items = this.kept();
    this.busy = false;
    this.wait = 0;
    this.state = "idle"; // idle | sending | away | signed_out
    this.changed = new Listeners(); // (items that were answered: [{item, ok, error}])
    this.timer = null;
    warnWhile(() => this.items.length > 0);
    window.addEventListener("online", () => this.state === "away" && this.wake());
  }

  // What a page that was closed or loaded anew had not saved; each keeps its client and its number.
  kept() {
    try {
      const items = JSON.parse(sessionStorage.getItem(this.name) || "[]");
      return Array.isArray(items) ? items : [];
    } catch {
      return [];
    }
  }

  keep() {
    try {
      if (this.items.length) sessionStorage.setItem(this.name, JSON.stringify(this.items));
      else sessionStorage.removeItem(this.name);
    } catch {
      // A browser that keeps nothing still sends; leaving the page is warned of.
    }
  }

  add({ kind, field, label = "", why = "", text = "" }) {
    this.seq += 1;
    const item = { client: this.client, seq: this.seq, kind, field, label, why, text };
    this.items.push(item);
    this.keep();
    this.later(0);
    return item;
  }

  of(field) {
    return this.items.filter((item) => item.field === field);
  }

  // A new page of the same reader: try at once, with the token that is valid now.
  wake() {
    this.wait = 0;
    if (!this.busy) this.state = "idle";
    if (this.items.length) this.later(0);
  }

  later(milliseconds) {
    if (this.busy || this.state === "signed_out") return;
    // While the server is away, more keys do not ask it sooner or put the next attempt off.
    if (this.state === "away" && this.timer !== null && milliseconds === 0) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), milliseconds);
  }

  async send() {
    if (this.busy || !this.items.length || this.state === "signed_out") return;
    this.busy = true;
    this.timer = null;
    const client = this.items[0].client;
    const other = this.items.findIndex((item) => item.client !== client);
    const sent = this.items.slice(0, Math.min(this.batch, other < 0 ? this.items.length : other));
    if (this.state === "idle") this.state = "sending";
    let answered = [];
    try {
      answered = await this.post(client, sent);
      this.state = "idle";
      this.wait = 0;
      this.batch = Math.min(BATCH, this.batch * 2);
    } catch (error) {
      answered = this.failed(error, sent);
    }
    const gone = new Set(answered.map((answer) => answer.item));
    this.items = this.items.filter((item) => !gone.has(item));
    this.keep();
    this.busy = false;
    this.changed.tell(answered);
    if (this.items.length) this.later(this.wait);
  }

  async post(client, sent) {
    const items = sent.map(({ client: _, ...item }) => item);
    const body = await this.net.json("POST", `/clinic/cases/${encodeURIComponent(this.case)}/readings`, {
      json: { client, items },
    });
    const results = new Map((body.results || []).map((result) => [result.seq, result]));
    const answered = sent
      .filter((item) => results.has(item.seq))
      .map((item) => ({ item, ok: results.get(item.seq).ok === true, error: results.get(item.seq).error || "" }));
    // An answer that speaks of none of the items is no acknowledgement.
    if (!answered.length) throw new Refused(502, null);
    return answered;
  }

  failed(error, sent) {
    if (error instanceof Refused && error.status === 401) {
      this.state = "signed_out";
      return [];
    }
    if (!(error instanceof Refused) || error.passing) {
      this.state = "away";
      this.wait = Math.min(LONGEST_WAIT, this.wait ? this.wait * 2 : FIRST_WAIT);
      return [];
    }
    this.state = "idle";
    this.wait = 0;
    if (sent.length > 1) {
      // One of them is refused for all: send singly, so that only that one is lost.
      this.batch = 1;
      return [];
    }
    return sent.map((item) => ({ item, ok: false, error: error.message }));
  }
}

function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
