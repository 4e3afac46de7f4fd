// Files on their way to one case, two at a time. It lives on the page, not in the component: sending goes
// on while the reader looks at another page.

const TWO = 2;
const TRIES = 4;

class Upload {
  constructor(net, { case_ = null, fresh = {} } = {}) {
    Object.assign(this, { net, case: case_, fresh });
    this.files = []; // {file, name, state: waiting|sending|added|again|refused|failed|cancelled, what, todo}
    this.elsewhere = [];
    this.done = 0;
    this.running = 0;
    this.changed = new Listeners();
    this.opened = null; // called once, with the case, when its first file is in
    if (case_) registry().uploads.set(case_, this);
    warnWhile(() => this.left > 0);
  }

  static of(net, case_, fresh) {
    const known = case_ && registry().uploads.get(case_);
    if (known) known.net = net;
    return known || new Upload(net, { case_, fresh });
  }

  get left() {
    return this.files.filter((one) => one.state === "waiting" || one.state === "sending").length;
  }

  get refused() {
    return this.files.filter((one) => one.state === "refused" || one.state === "failed");
  }

  add(files, limit, say) {
    for (const file of files) {
      const one = { file, name: file.name, state: "waiting", what: "", todo: "" };
      if (file.size > limit) {
        const values = { megabytes: Math.round(limit / 2 ** 20) };
        Object.assign(one, { state: "refused", file: null, what: say("too_large.what", values), todo: say("too_large.todo", values) });
      }
      this.files.push(one);
    }
    this.tell();
    this.start(say);
  }

  again(say) {
    for (const one of this.files) if (one.state === "failed") one.state = "waiting";
    this.tell();
    this.start(say);
  }

  cancel() {
    if (this.stop) this.stop.abort();
    for (const one of this.files) if (one.state === "waiting") one.state = "cancelled";
    this.tell();
  }

  tell() {
    this.changed.tell();
    if (this.case) registry().moved.tell(this.case);
  }

  // Make the case where there is none, once, whoever comes first.
  async place() {
    if (this.case) return;
    this.making = this.making || this.retried(() => this.net.json("POST", "/clinic/cases", { json: this.fresh }));
    try {
      this.case = (await this.making).case;
      registry().uploads.set(this.case, this);
    } finally {
      this.making = null;
    }
  }

  async start(say) {
    if (!this.stop || this.stop.signal.aborted) this.stop = new AbortController();
    const { signal } = this.stop;
    if (!this.files.some((one) => one.state === "waiting")) return;
    try {
      await this.place();
    } catch (error) {
      for (const one of this.files) if (one.state === "waiting") this.fail(one, error, say);
      this.tell();
      return;
    }
    while (this.running < TWO && !signal.aborted) {
      const one = this.files.find((file) => file.state === "waiting");
      if (!one) break;
      this.send(one, signal, say);
    }
  }

  async send(one, signal, say) {
    this.running += 1;
    one.state = "sending";
    this.tell();
    try {
      const path = `/clinic/cases/${encodeURIComponent(this.case)}/files?name=${encodeURIComponent(one.name)}`;
      const headers = { "Content-Type": "application/octet-stream" };
      const result = await this.retried(() => this.net.json("POST", path, { body: one.file, headers, signal }));
      this.received(one, result);
    } catch (error) {
      if (signal.aborted) one.state = "cancelled";
      else this.fail(one, error, say);
    }
    this.running -= 1;
    this.done += 1;
    if (one.state !== "failed") one.file = null; // its bytes are not held any longer
    this.tell();
    this.start(say);
  }

  received(one, { added = [], again = [], refused = [], elsewhere = [] }) {
    this.elsewhere.push(...elsewhere);
    // A zip holds several: what was refused of it stands as a line of its own.
    one.state = added.length ? "added" : again.length ? "again" : "refused";
    one.count = added.length;
    const [first, ...others] = refused;
    if (one.state === "refused" && first) Object.assign(one, { name: first.name || one.name, what: first.what, todo: first.todo });
    for (const other of one.state === "refused" ? others : refused) {
      this.files.push({ file: null, name: other.name, state: "refused", what: other.what, todo: other.todo });
    }
    if ((added.length || again.length) && this.opened) {
      const { opened } = this;
      this.opened = null;
      opened(this.case);
    }
  }

  fail(one, error, say) {
    const ours = error instanceof Refused && error.code !== "";
    const signedOut = error instanceof Refused && error.status === 401;
    one.state = ours && !signedOut ? "refused" : "failed";
    one.what = (error instanceof Refused && error.message) || say(signedOut ? "failed.signed_out" : "failed.what");
    one.todo = one.state === "failed" ? say("failed.todo") : "";
  }

  // The server may be away for a moment; a file that comes twice is known by its content.
  async retried(act) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await act();
      } catch (error) {
        const over = tries >= TRIES || error.name === "AbortError" || (error instanceof Refused && !error.passing);
        if (over) throw error;
        await sleep(500 * 2 ** tries);
      }
    }
  }
}
