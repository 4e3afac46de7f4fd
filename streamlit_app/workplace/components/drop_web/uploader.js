// Files on their way to one case, two at a time. It lives on the page, not in the component: sending goes
// on while the reader looks at another page.

const TWO = 2;
const TRIES = 6; // about half a minute: a server that is started anew is back by then

class Upload {
  constructor(net, { case_ = null, fresh = {}, user = "" } = {}) {
    Object.assign(this, { net, case: null, fresh, user });
    // {file, name, state: waiting|sending|added|again|refused|failed|cancelled, what, todo, known: [names]}
    this.files = [];
    this.signedOut = false; // the server does not know this page: files wait for another token
    this.elsewhere = [];
    this.done = 0;
    this.running = 0;
    this.changed = new Listeners();
    this.opened = null; // called once, with the case, when its first file is in
    if (case_) this.into(case_);
    warnWhile(() => this.left > 0);
  }

  static of(net, case_, { fresh, user }) {
    const known = case_ && registry().uploads.get(case_);
    if (!known || known.user !== user) return new Upload(net, { case_, fresh, user });
    known.net = net;
    return known;
  }

  into(case_) {
    this.case = case_;
    registry().uploads.set(case_, this);
    Files.of(this.user, case_).follow(this);
  }

  // Another token for the same person: what waited goes on.
  renew(user, token) {
    if (user !== this.user || (this.signedOut && token === this.stopped)) return;
    this.net.token = token;
    if (!this.signedOut) return;
    this.signedOut = false;
    this.tell();
    this.start(this.say);
  }

  get left() {
    return this.files.filter((one) => one.state === "waiting" || one.state === "sending").length;
  }

  get refused() {
    return this.files.filter((one) => one.state === "refused" || one.state === "failed");
  }

  // `refuse(file)` says why a file is not even sent, as {what, todo}, or nothing.
  add(files, refuse, say) {
    for (const file of files) {
      const one = { file, name: file.name, state: "waiting", what: "", todo: "" };
      const why = refuse(file);
      if (why) Object.assign(one, { state: "refused", file: null, ...why });
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
    this.signedOut = false;
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
      const made = (await this.making).case;
      if (!this.case) this.into(made);
    } finally {
      this.making = null;
    }
  }

  async start(say) {
    if (!this.stop || this.stop.signal.aborted) this.stop = new AbortController();
    const { signal } = this.stop;
    this.say = say;
    if (this.signedOut || !this.files.some((one) => one.state === "waiting")) return;
    const { token } = this.net;
    try {
      await this.place();
    } catch (error) {
      if (isSignedOut(error)) return this.wait(token, say);
      for (const one of this.files) if (one.state === "waiting") this.fail(one, error, say);
      this.tell();
      return undefined;
    }
    while (this.running < TWO && !signal.aborted && !this.signedOut) {
      const one = this.files.find((file) => file.state === "waiting");
      if (!one) break;
      this.send(one, signal, say);
    }
    return undefined;
  }

  // Nobody here knows the token any more. What is not sent waits; whoever shows the page asks for another.
  wait(token, say) {
    // Another file may have brought the new token meanwhile.
    if (token === this.net.token) Object.assign(this, { signedOut: true, stopped: token });
    this.tell();
    if (!this.signedOut) this.start(say);
  }

  async send(one, signal, say) {
    this.running += 1;
    one.state = "sending";
    this.tell();
    const { token } = this.net;
    try {
      const path = `/clinic/cases/${encodeURIComponent(this.case)}/files?name=${encodeURIComponent(one.name)}`;
      const headers = { "Content-Type": "application/octet-stream" };
      const result = await this.retried(() => this.net.json("POST", path, { body: one.file, headers, signal }));
      this.received(one, result);
    } catch (error) {
      if (signal.aborted) one.state = "cancelled";
      else if (isSignedOut(error)) one.state = "waiting";
      else this.fail(one, error, say);
    }
    this.running -= 1;
    if (one.state === "waiting") return this.wait(token, say);
    this.done += 1;
    if (one.state !== "failed") one.file = null; // its bytes are not held any longer
    this.tell();
    return this.start(say);
  }

  received(one, { added = [], again = [], refused = [], elsewhere = [] }) {
    this.elsewhere.push(...elsewhere);
    // A zip holds several: what was refused of it stands as a line of its own.
    one.state = added.length ? "added" : again.length ? "again" : "refused";
    one.count = added.length;
    one.known = again.map((known) => known.name || one.name);
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
    one.state = ours ? "refused" : "failed";
    one.read = false;
    one.what = (error instanceof Refused && error.message) || say("failed.what");
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

function isSignedOut(error) {
  return error instanceof Refused && error.status === 401;
}
