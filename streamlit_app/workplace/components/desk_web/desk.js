// The desk: the parts put together, and what a key or a button does.

const TOKEN_WAIT = 3000;
const ONWARD_KEPT = "allkit.desk.onward";

class Desk {
  constructor(root, data, trigger) {
    Object.assign(this, { root, data, trigger });
    this.say = wordsOf(data.texts);
    this.net = new Net(data.token, data.base || "");
    this.pictures = new Pictures(this.net);
    this.queue = Queue.of(this.net, data.user || "", data.case);
    this.reading = new Reading(this.queue);
    this.files = Files.of(data.user || "", data.case);
    this.wide = window.matchMedia("(min-width: 1200px)");
    this.narrow = window.matchMedia("(max-width: 799.98px)");
    this.asks = 0;
    this.onward = keptText(ONWARD_KEPT) === "1";
    this.left = null; // the field that an answer moved on from: undoing goes back to it
    this.build();
    this.undo = [
      this.queue.changed.add((answered) => this.answered(answered)),
      registry().moved.add((case_) => case_ === data.case && this.filesMoved()),
      this.files.changed.add(() => this.filesMoved()),
    ];
    this.poll = new Poll(this.net, data.case, {
      turn: () => this.reading.turn,
      take: (screen, turn) => this.take(screen, turn),
      failed: (error) => this.failed(error),
    });
    this.filesMoved();
    this.sendFiles();
  }

  build() {
    const { root, say } = this;
    const act = {
      step: (by) => this.step(by), label: (name) => this.label(name), accept: () => this.accept(),
      undo: () => this.takeBack(), nextUnread: () => this.goUnread(), rest: () => this.rest(),
      note: (field, text) => this.add({ kind: "note", field, text }), closeDrawer: () => this.closeDrawer(),
    };
    this.dialogs = new Dialogs(root, say);
    this.keys = new Keys(root, {
      act: (action) => this.act(action),
      classes: () => (this.reading.screen ? this.reading.screen.classes.map((one) => one.name) : []),
      dialogs: this.dialogs,
      escape: (event) => this.textKey(event),
    });
    this.head = new Head(say, {
      ask: (what) => this.ask(what), sheet: () => this.sheet(), overview: () => this.overview(true),
      unread: () => this.goUnread(), closeFiles: () => this.files.close(),
    });
    this.grid = new Grid(this.reading, this.pictures, say, {
      select: (id) => this.select(id, { focus: true }), open: () => this.openDrawer(),
    });
    this.viewer = new Viewer(this.net, this.pictures, this.reading, say, act);
    this.viewer.node.setAttribute("tabindex", "-1");
    this.polite = make("p", { class: "aloud", role: "status", "aria-live": "polite" });
    this.alert = make("p", { class: "aloud", role: "alert", "aria-live": "assertive" });
    this.empty = make("p", { class: "empty", text: say("loading") });
    const work = make("div", { class: "work" }, this.grid.node, this.viewer.node);
    show(this.viewer.node, false);
    root.setAttribute("dir", this.data.direction === "rtl" ? "rtl" : "ltr");
    root.replaceChildren(this.head.node, this.empty, work, this.polite, this.alert);
    // A mouse leaves no button with the focus: the keys go on acting on the field.
    root.addEventListener("click", this.clicked = (event) => {
      const button = event.target.closest("button");
      if (event.detail > 0 && button && !this.dialogs.open && !takesText(focused())) this.rest();
    });
    this.head.paintSaving(null, this.queue);
  }

  take(screen, turn) {
    const first = this.reading.screen === null;
    const { changed, moved, stale } = this.reading.take(screen, turn);
    this.viewer.arrange((name) => this.keys.ofClass(name));
    for (const id of changed) this.grid.paint(id);
    if (moved) this.grid.arrange();
    show(this.empty, screen.fields.length === 0);
    setText(this.empty, this.say("empty"));
    show(this.viewer.node, screen.fields.length > 0);
    this.paintHead();
    const kept = registry().selected.get(this.data.case);
    const selected = this.grid.selected;
    if (!this.reading.fields.has(selected)) {
      const start = this.reading.fields.has(kept) ? kept : this.reading.nextUnread(null) || this.reading.order[0];
      if (start) this.select(start, { scroll: !first });
    } else if (changed.includes(selected) || this.readable !== screen.may_read) {
      this.viewer.show(selected);
    }
    this.readable = screen.may_read;
    this.tellProgress(screen);
    return stale;
  }

  tellProgress(screen) {
    const { state, words } = screen.job;
    if (this.jobState && this.jobState !== state && words) this.aloud(words, state === "failed");
    this.jobState = state;
  }

  failed(error) {
    if (error === null) return this.head.setTrouble("");
    const signedOut = error instanceof Refused && error.status === 401;
    const words = error instanceof Refused && error.message ? error.message : "";
    this.head.setTrouble(signedOut ? this.say("trouble.signed_out") : words || this.say("trouble.away"));
    if (signedOut) this.askToken();
    return undefined;
  }

  paintHead() {
    if (!this.reading.screen) return this.head.paintSaving(null, this.queue);
    this.head.paint(this.reading.screen);
    this.head.paintSaving(this.reading.screen, this.queue);
    return undefined;
  }

  // ── readings ────────────────────────────────────────────────────────────────────────────────

  add(item) {
    this.reading.errors.delete(item.field);
    this.queue.add(item);
    this.repaint(item.field);
    this.head.paintSaving(this.reading.screen, this.queue);
  }

  repaint(id) {
    this.grid.paint(id);
    if (id === this.grid.selected && this.reading.fields.has(id)) this.viewer.paint();
  }

  answered(answered) {
    for (const answer of answered) this.reading.answered(answer);
    for (const id of new Set(answered.map((answer) => answer.item.field))) this.repaint(id);
    const refused = answered.find((answer) => !answer.ok);
    if (refused) this.tellRefused(refused);
    if (this.queue.state === "away" && this.queueState !== "away") {
      this.aloud(this.say("queue.away", { n: this.queue.items.length }));
    }
    this.queueState = this.queue.state;
    if (this.queue.state === "signed_out") this.failed(new Refused(401, null));
    this.paintHead();
    if (answered.length) this.poll.soon();
  }

  tellRefused({ item, error }) {
    const field = this.reading.fields.get(item.field);
    const number = field ? field.number : "";
    this.aloud(this.say("queue.refused", { number, error }), true);
  }

  get field() {
    return this.reading.fields.get(this.grid.selected);
  }

  // Whether a reading can be given now; where not, say why.
  ready() {
    if (!this.field) return false;
    if (this.reading.screen.may_read) return true;
    this.aloud(this.reading.screen.may_not || "", true);
    return false;
  }

  label(name) {
    if (!this.ready()) return;
    const field = this.field;
    if (this.reading.label(field) === name) return this.moveOn(field.id, this.onward);
    const give = (why) => {
      this.add({ kind: "label", field: field.id, label: name, why });
      this.moveOn(field.id, this.onward);
      // What was given as the reason is seen at once, though the desk has gone on to another field.
      if (why) this.aloud(this.say("reason.given", { number: field.number, label: this.reading.display(name), why }), false, { seen: true });
    };
    if (!field.needs_why || name === field.label) return give("");
    const [given, wanted] = [this.reading.display(field.label), this.reading.display(name)];
    return this.dialogs.reason(this.say("reason.words", { number: field.number, given, wanted }), give);
  }

  accept() {
    if (!this.ready()) return;
    const field = this.field;
    if (!field.label) return this.aloud(this.say("accept.none"), true);
    if (this.reading.label(field) !== field.label) this.add({ kind: "accept", field: field.id, label: field.label });
    return this.moveOn(field.id, true, this.reading.nextAfter(field.id));
  }

  // Go on to the next to read, or to `next`; say it when none is left.
  moveOn(id, onward, next = this.reading.nextUnread(id)) {
    if (!onward) return;
    if (!this.reading.nextUnread(id)) this.aloud(this.say("all_read"));
    if (!next || next === id) return;
    this.select(next, { focus: true });
    this.left = id;
  }

  takeBack() {
    if (!this.ready()) return;
    const here = this.field;
    const id = this.reading.label(here) === null && this.left ? this.left : here.id;
    const field = this.reading.fields.get(id);
    if (!field || this.reading.label(field) === null) return this.aloud(this.say("undo.none"), true);
    this.add({ kind: "undo", field: id });
    if (id !== here.id) this.select(id, { focus: true });
    return this.aloud(this.say("undo.done", { number: field.number }));
  }

  goUnread() {
    const next = this.field && this.reading.nextUnread(this.field.id);
    if (next) this.select(next, { focus: true });
    else this.aloud(this.say("all_read"));
  }

  // ── moving ──────────────────────────────────────────────────────────────────────────────────

  select(id, { focus = false, scroll = true } = {}) {
    if (!this.reading.fields.has(id)) return;
    this.left = null;
    // The focus follows where the grid is in front; over it, it stays in the viewer.
    const front = !this.drawn && !this.narrow.matches;
    this.grid.mark(id, { focus: focus && front });
    if (focus && !front && scroll) this.grid.cells.get(id).node.scrollIntoView({ block: "nearest" });
    registry().selected.set(this.data.case, id);
    this.viewer.show(id);
    this.fetchAhead(id);
  }

  // The next picture is there before it is wanted.
  fetchAhead(id) {
    clearTimeout(this.ahead);
    this.ahead = setTimeout(() => {
      for (const next of [this.reading.step(id, 1), this.reading.nextUnread(id)]) {
        if (next && next !== id) this.pictures.get(fieldPicture(next, 1024), { large: true }).catch(() => {});
      }
    }, 250);
  }

  step(by) {
    if (this.field) this.select(this.reading.step(this.field.id, by), { focus: true });
  }

  vertical(by) {
    if (!this.field) return;
    if (this.narrow.matches) this.step(by);
    else this.select(this.grid.vertical(this.field.id, by), { focus: true });
  }

  openDrawer() {
    this.overview(false);
    if (this.wide.matches || this.narrow.matches) return;
    this.drawn = true;
    this.root.classList.add("drawn");
    this.viewer.node.focus({ preventScroll: true });
    this.viewer.stage.fit();
  }

  closeDrawer() {
    if (!this.drawn) return false;
    this.drawn = false;
    this.root.classList.remove("drawn");
    this.grid.focus();
    return true;
  }

  overview(open) {
    this.root.classList.toggle("overview", open && this.narrow.matches);
    if (open) this.grid.mark(this.grid.selected, { focus: true });
  }

  rest() {
    if (this.drawn || this.narrow.matches) this.viewer.node.focus({ preventScroll: true });
    else this.grid.focus();
  }

  // ── keys ────────────────────────────────────────────────────────────────────────────────────

  act(action) {
    const forward = this.data.direction === "rtl" ? -1 : 1;
    const { stage } = this.viewer;
    if (action.startsWith("class:")) return this.label(action.slice(6));
    const known = {
      other: () => this.labelWhereKnown("other"), inadequate: () => this.labelWhereKnown("inadequate"),
      accept: () => this.accept(), undo: () => this.takeBack(), map: () => this.viewer.toggleMap(),
      cells: () => this.viewer.toggleCells(), note: () => this.field && this.viewer.openNote(),
      unread: () => this.goUnread(), sheet: () => this.sheet(), open: () => this.openDrawer(),
      left: () => this.step(-forward), right: () => this.step(forward),
      up: () => this.vertical(-1), down: () => this.vertical(1),
      home: () => this.select(this.reading.order[0], { focus: true }),
      end: () => this.select(this.reading.order.at(-1), { focus: true }),
      in: () => stage.zoom(1.4), out: () => stage.zoom(1 / 1.4), fit: () => stage.fit(),
      escape: () => this.closeDrawer(),
    };
    return known[action]();
  }

  labelWhereKnown(name) {
    if (this.reading.screen && this.reading.screen.classes.some((one) => one.name === name)) this.label(name);
  }

  // Keys in a text of the desk: Escape leaves the note, Ctrl+Enter keeps it.
  textKey(event) {
    if (focused() !== this.viewer.noteText) {
      if (event.key === "Escape") this.rest();
      return event.key === "Escape";
    }
    if (event.key === "Escape") this.viewer.closeNote();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.viewer.saveNote();
    else return false;
    return true;
  }

  actionWords(action) {
    if (action.startsWith("class:")) return this.reading.display(action.slice(6));
    if (action === "other" || action === "inadequate") return this.reading.display(action);
    return this.say(`action.${action}`);
  }

  sheet() {
    if (!this.reading.screen) return;
    this.dialogs.sheet(this.keys, (action) => this.actionWords(action), {
      onward: this.onward,
      setOnward: (on) => {
        this.onward = on;
        keepText(ONWARD_KEPT, on ? "1" : "0");
      },
      changed: () => {
        this.viewer.arrange((name) => this.keys.ofClass(name));
        this.viewer.paint();
      },
    });
  }

  // ── the rest ────────────────────────────────────────────────────────────────────────────────

  ask(what) {
    this.asks += 1;
    this.trigger("ask", { what, unsaved: this.queue.items.length, at: Date.now() * 1000 + this.asks });
  }

  // After a restart of the server nobody knows this page's token: a run of the page gives another, or
  // shows the sign-in. Asked again, as the page may not be connected yet.
  askToken() {
    clearTimeout(this.asking);
    const token = this.net.token;
    try {
      this.ask("token");
    } catch {
      // The page is not connected.
    }
    this.asking = setTimeout(() => this.net.token === token && this.askToken(), TOKEN_WAIT);
  }

  filesMoved() {
    const job = registry().uploads.get(this.data.case);
    this.head.paintComing(job ? job.left : 0, this.files.told());
    if (job && this.poll && this.filesDone !== job.done) this.poll.soon();
    this.filesDone = job && job.done;
  }

  aloud(words, urgent = false, { seen = urgent } = {}) {
    const region = urgent ? this.alert : this.polite;
    region.textContent = "";
    region.textContent = words;
    for (const one of [this.polite, this.alert]) one.classList.toggle("seen", seen && one === region);
    clearTimeout(this.quiet);
    if (seen) this.quiet = setTimeout(() => region.classList.remove("seen"), 6000);
  }

  // Files that stopped when nobody knew this page go on with the token that is valid now.
  sendFiles() {
    const job = registry().uploads.get(this.data.case);
    if (job && job.renew) job.renew(this.data.user || "", this.data.token);
  }

  renew(data, trigger) {
    this.data = data;
    this.trigger = trigger;
    const fresh = this.net.token !== data.token;
    this.net.token = data.token;
    if (!fresh) return;
    this.sendFiles();
    this.queue.wake();
    this.head.setTrouble("");
    this.poll.soon();
    this.grid.again();
    if (this.field) this.viewer.stage.again();
  }

  close() {
    if (this.dialogs.open) this.dialogs.shut();
    this.keys.close();
    this.poll.close();
    this.viewer.close();
    this.grid.close();
    this.pictures.close();
    for (const undo of this.undo) undo();
    clearTimeout(this.ahead);
    clearTimeout(this.quiet);
    clearTimeout(this.asking);
    this.root.removeEventListener("click", this.clicked);
    this.root.replaceChildren();
  }
}
