// What the reader sees of a case: the last screen of the server, with the readings on their way on top.

const LAST_GROUPS = ["waiting", "hidden", "refused", "unreadable"];

class Reading {
  constructor(queue) {
    this.queue = queue;
    this.screen = null;
    this.fields = new Map();
    this.order = [];
    this.groups = [];
    this.errors = new Map(); // field: the server's words about a reading that it refused
    this.saved = new Map(); // field: the turn in which a reading of it was saved
    this.past = new Map(); // field: the labels that were saved from this page, the last one on top
    this.turn = 0;
  }

  // Take a screen that was asked for in `turn`; return the fields that changed and whether the places did.
  take(screen, turn) {
    const before = this.fields;
    this.screen = screen;
    this.fields = new Map();
    const changed = [];
    let stale = false;
    for (const field of screen.fields) {
      const old = before.get(field.id);
      // A screen that left the server before the reading was saved knows less than this page.
      if (old && (this.saved.get(field.id) || 0) > turn) {
        field.mine = old.mine;
        field.notes = old.notes;
        stale = true;
      }
      field.text = JSON.stringify(field);
      this.fields.set(field.id, field);
      if (!old || old.touched || old.text !== field.text) changed.push(field.id);
    }
    return { changed, moved: this.arrange(), stale };
  }

  // Put the fields under their headings; whether the order is another one now.
  arrange() {
    const names = this.groupNames();
    const groups = new Map(names.map((name) => [name, []]));
    const fields = [...this.fields.values()].sort((a, b) => a.number - b.number);
    for (const field of fields) {
      if (!groups.has(field.group)) groups.set(field.group, []);
      groups.get(field.group).push(field.id);
    }
    const before = JSON.stringify(this.groups);
    this.groups = [...groups].filter(([, ids]) => ids.length);
    this.order = this.groups.flatMap(([, ids]) => ids);
    return JSON.stringify(this.groups) !== before;
  }

  // "Needs review" first; malignant classes before the benign ones.
  groupNames() {
    const benign = new Set(["Benign"]);
    for (const field of this.fields.values()) if (field.tone === "benign") benign.add(field.group);
    const classes = this.screen.classes.map((found) => found.name);
    const malignant = classes.filter((name) => !benign.has(name));
    return ["review", ...LAST_GROUPS, ...malignant, ...classes.filter((name) => benign.has(name))];
  }

  display(label) {
    const found = this.screen.classes.find((one) => one.name === label);
    return found ? found.display : label;
  }

  // The label that the reader sees as theirs: what is saved, then each reading on its way in its order.
  label(field) {
    let stack = [...(this.past.get(field.id) || [])];
    const mine = field.mine ? field.mine.label : null;
    if (!stack.length || stack.at(-1) !== mine) stack = mine === null ? [] : [mine];
    for (const item of this.queue.of(field.id)) {
      if (item.kind === "label" || item.kind === "accept") stack.push(item.label);
      else if (item.kind === "undo") stack.pop();
    }
    return stack.length ? stack.at(-1) : null;
  }

  why(field) {
    const items = this.queue.of(field.id).filter((item) => item.kind !== "note");
    return items.length ? items.at(-1).why : (field.mine && field.mine.why) || "";
  }

  unsaved(field) {
    return this.queue.of(field.id).length > 0;
  }

  notes(field) {
    const pending = this.queue.of(field.id).filter((item) => item.kind === "note");
    return [...(field.notes || []), ...pending.map((item) => ({ text: item.text, unsaved: true }))];
  }

  // An item was answered: what was saved becomes the state of the server, what was refused is taken back.
  answered({ item, ok, error }) {
    const field = this.fields.get(item.field);
    this.turn += 1;
    if (!ok) {
      this.errors.set(item.field, error);
      return;
    }
    if (!field) return;
    this.saved.set(field.id, this.turn);
    field.touched = true; // what is painted is no longer what the server told last
    if (item.kind === "note") {
      field.notes = [...(field.notes || []), { text: item.text, by: "", at: "" }];
      return;
    }
    const past = this.past.get(field.id) || (field.mine ? [field.mine.label] : []);
    if (item.kind === "undo") past.pop();
    else past.push(item.label);
    this.past.set(field.id, past);
    const label = past.length ? past.at(-1) : null;
    const why = item.kind === "label" ? item.why : "";
    field.mine = label === null ? null : { label, display: this.display(label), why, by: "", at: "" };
  }

  // Whether the reader still has to look, as the server counts it; with the readings on their way.
  unread(field) {
    if (this.label(field) !== null) return false;
    if (this.screen.round === 2) return field.other !== null || field.state === "hidden";
    return field.state !== "accepted" || this.screen.blind;
  }

  // The next field after this one that can and has to be read now, from the start again at the end.
  nextUnread(id) {
    const at = this.order.indexOf(id);
    const round = [...this.order.slice(at + 1), ...this.order.slice(0, Math.max(0, at))];
    const running = ["queued", "running"].includes(this.screen.job.state);
    return round.find((next) => {
      const field = this.fields.get(next);
      return this.unread(field) && !(running && field.state === "waiting");
    });
  }

  // Where accepting goes: the next to read, else the next without a class of the reader, else the next.
  nextAfter(id) {
    const at = this.order.indexOf(id);
    const round = [...this.order.slice(at + 1), ...this.order.slice(0, Math.max(0, at))];
    const open = round.find((next) => this.label(this.fields.get(next)) === null);
    return this.nextUnread(id) || open || round[0];
  }

  step(id, by) {
    const at = this.order.indexOf(id);
    return this.order[Math.min(this.order.length - 1, Math.max(0, at + by))];
  }
}
