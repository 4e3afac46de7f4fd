// The field that is looked at: its picture, what the model says of it in words, the classes, the notes.

const MAP_STEP = 60;

class Viewer {
  constructor(net, pictures, reading, say, act) {
    Object.assign(this, { reading, say, act, pictures, drafts: new Map() });
    this.stage = new Stage(pictures, say, { swipe: (by) => act.step(by) });
    this.why = new Why(net, pictures, say, { ready: (id) => this.mapReady(id) });
    this.cellsOn = false;
    this.opacity = 0;
    this.field = null;
    this.node = make(
      "section",
      { class: "viewer", "aria-label": say("viewer.title") },
      this.makeHead(), this.makeVerdict(), this.stage.node, this.makeTools(), this.makeClasses(), this.makeMore(),
    );
    this.stage.setCells(false);
  }

  button(name, act, props = {}) {
    const title = props.title || this.say(name);
    return make("button", { type: "button", on: { click: act }, title, ...props, text: props.text || this.say(name) });
  }

  makeHead() {
    this.title = make("h2", { class: "title" });
    this.name = make("span", { class: "file quiet", dir: "auto" });
    const step = (name, by, sign) =>
      this.button(name, () => this.act.step(by), { class: "icon", "aria-label": this.say(name), text: sign });
    this.closer = this.button("viewer.close", () => this.act.closeDrawer(), { class: "closer" });
    return make(
      "header", { class: "head" },
      make("div", { class: "names" }, this.title, this.name),
      make("div", { class: "steps" }, step("viewer.previous", -1, "‹"), step("viewer.next", 1, "›"), this.closer),
    );
  }

  makeVerdict() {
    this.tone = make("span", { class: "mark-box" });
    this.headline = make("strong");
    this.band = make("span", { class: "band" });
    this.number = this.button("viewer.number", () => this.showNumber(), { class: "link", "aria-expanded": "false" });
    this.sentence = make("p", { class: "sentence" });
    this.excluded = make("p", { class: "excluded" });
    return make(
      "div", { class: "verdict" },
      make("p", { class: "line" }, this.tone, this.headline, this.band, this.number),
      this.sentence, this.excluded,
    );
  }

  makeTools() {
    const zoom = (name, act, sign) => this.button(name, act, { class: "icon", "aria-label": this.say(name), text: sign });
    this.slider = make("input", {
      type: "range", min: 0, max: 100, step: 1, value: 0, "aria-label": this.say("viewer.map"),
      on: { input: () => this.setOpacity(Number(this.slider.value)), pointerup: () => setTimeout(() => this.act.rest(), 0) },
    });
    this.mapLabel = make("label", { class: "map-tool" }, make("span", { text: this.say("viewer.map") }), this.slider);
    this.cellsButton = this.button("viewer.cells", () => this.toggleCells(), { "aria-pressed": "false" });
    this.mapWords = make("p", { class: "quiet map-words", role: "status", hidden: true });
    return make(
      "div", { class: "tools" },
      make(
        "div", { class: "zoom" },
        zoom("viewer.out", () => this.stage.zoom(1 / 1.4), "−"),
        zoom("viewer.fit", () => this.stage.fit(), this.say("viewer.fit_short")),
        zoom("viewer.in", () => this.stage.zoom(1.4), "+"),
      ),
      this.mapLabel, this.cellsButton, this.mapWords,
    );
  }

  makeClasses() {
    this.classes = make("div", { class: "classes", role: "group", "aria-label": this.say("viewer.classes") });
    this.buttons = new Map();
    this.accept = this.button("viewer.accept", () => this.act.accept(), { class: "accept" });
    this.undo = this.button("viewer.undo", () => this.act.undo());
    this.unreadButton = this.button("viewer.unread", () => this.act.nextUnread());
    this.offWords = make("p", { class: "quiet off" });
    // Under the buttons, with room kept: the picture stays where it is when a class is given.
    this.mine = make("p", { class: "own" });
    this.error = make("p", { class: "error" });
    return make(
      "div", { class: "answering" }, this.classes,
      make("div", { class: "row" }, this.accept, this.undo, this.unreadButton), this.mine, this.error, this.offWords,
    );
  }

  makeMore() {
    this.reasons = make("ul", { class: "reasons" });
    this.measured = make("p", { class: "measured quiet" });
    this.other = make("p", { class: "other" });
    this.whyButton = this.button("viewer.why", () => this.toggleWhy(), { "aria-expanded": "false" });
    this.noteButton = this.button("viewer.note", () => this.openNote(), { "aria-expanded": "false" });
    this.noteList = make("ul", { class: "notes" });
    this.noteText = make("textarea", { rows: 3, maxlength: 2000, "aria-label": this.say("note.text"), dir: "auto" });
    this.noteForm = make(
      "div", { class: "note-form", hidden: true }, this.noteText,
      make(
        "div", { class: "row" },
        this.button("note.save", () => this.saveNote(), { class: "accept" }),
        this.button("note.close", () => this.closeNote()),
      ),
    );
    return make(
      "div", { class: "more" }, this.reasons, this.measured, this.other,
      make("div", { class: "row" }, this.whyButton, this.noteButton), this.why.node, this.noteList, this.noteForm,
    );
  }

  // The buttons of the classes; made anew only where the model's classes or the keys changed.
  arrange(keyOf) {
    const known = JSON.stringify([this.reading.screen.classes, this.reading.screen.classes.map((one, n) => keyOf(one.name, n))]);
    if (known === this.classesKnown) return;
    this.classesKnown = known;
    this.buttons.clear();
    const made = this.reading.screen.classes.map((one, n) => {
      const key = make("kbd", { text: keyOf(one.name, n), "aria-hidden": "true" });
      const words = make("span", { text: one.display });
      const on = { click: () => this.act.label(one.name) };
      const button = make("button", { type: "button", class: "class", "aria-pressed": "false", on, data: { label: one.name } }, key, words);
      this.buttons.set(one.name, button);
      return button;
    });
    this.classes.replaceChildren(...made);
  }

  show(id) {
    const field = this.reading.fields.get(id);
    if (!field) return;
    const other = !this.field || this.field.id !== id;
    if (other) {
      if (this.field && !this.noteForm.hidden) this.drafts.set(this.field.id, this.noteText.value);
      show(this.noteForm, false);
      setAttribute(this.noteButton, "aria-expanded", "false");
      this.numberShown = false;
    }
    this.field = field;
    this.paint();
    this.stage.show(field);
    this.why.show(field, this.opacity > 0 || !this.why.node.hidden);
    if (other) this.mapReady(id);
  }

  paint() {
    const { field, reading, say } = this;
    const label = reading.label(field);
    setText(this.title, say("field.title", { number: field.number }));
    setText(this.name, field.name);
    setMark(this.tone, field.state === "accepted" ? field.tone : field.state);
    setText(this.headline, field.headline || stateWord(field, reading, say));
    setText(this.band, field.band_words || "");
    this.paintNumber();
    setText(this.sentence, field.sentence || "");
    const excluded = field.not_excluded || [];
    show(this.excluded, excluded.length > 0);
    setText(this.excluded, say("viewer.not_excluded", { classes: excluded.map((one) => reading.display(one)).join(", ") }));
    this.paintOwn(label);
    this.paintButtons(label);
    this.paintMore();
  }

  paintNumber() {
    show(this.number, !!this.field.percent);
    setText(this.number, this.numberShown ? this.field.percent || "" : this.say("viewer.number"));
    setAttribute(this.number, "aria-expanded", String(!!this.numberShown));
  }

  showNumber() {
    this.numberShown = !this.numberShown;
    this.paintNumber();
  }

  paintOwn(label) {
    const { field, reading, say } = this;
    this.mine.classList.toggle("none", label === null);
    if (label === null) {
      setText(this.mine, say("viewer.mine_none"));
    } else {
      const why = reading.why(field);
      const words = say(reading.unsaved(field) ? "viewer.mine_unsaved" : "viewer.mine", { label: reading.display(label) });
      setText(this.mine, why ? `${words} ${say("viewer.because", { why })}` : words);
    }
    const error = reading.errors.get(field.id);
    show(this.error, !!error);
    setText(this.error, error ? say("viewer.error", { error }) : "");
  }

  paintButtons(label) {
    const { screen } = this.reading;
    const off = !screen.may_read;
    for (const [name, button] of this.buttons) {
      setAttribute(button, "aria-pressed", String(name === label));
      button.disabled = off;
    }
    this.accept.disabled = off || !this.field.label;
    this.undo.disabled = off || label === null;
    this.noteButton.disabled = off;
    show(this.offWords, off);
    setText(this.offWords, screen.may_not || "");
  }

  paintMore() {
    const { field, reading, say } = this;
    const list = (node, texts, dir) => {
      show(node, texts.length > 0);
      if (JSON.stringify(texts) === node.known) return;
      node.known = JSON.stringify(texts);
      node.replaceChildren(...texts.map((text) => make("li", { text, dir })));
    };
    list(this.reasons, field.reasons || []);
    list(this.noteList, reading.notes(field).map((note) => noteWords(note, say)), "auto");
    show(this.measured, !!field.measured);
    setText(this.measured, field.measured || "");
    show(this.other, !!field.other);
    if (field.other) setText(this.other, say("viewer.other_reader", { label: field.other.display, by: field.other.by || "" }));
    const possible = Why.of(field);
    this.whyButton.disabled = !possible;
    this.slider.disabled = !possible;
    this.cellsButton.disabled = !(field.cells || []).length;
  }

  toggleCells() {
    this.cellsOn = !this.cellsOn;
    setAttribute(this.cellsButton, "aria-pressed", String(this.cellsOn));
    this.stage.setCells(this.cellsOn);
  }

  toggleMap() {
    this.setOpacity(this.opacity ? 0 : this.lastOpacity || MAP_STEP);
  }

  setOpacity(value) {
    this.opacity = value;
    if (value) this.lastOpacity = value;
    if (Number(this.slider.value) !== value) this.slider.value = String(value);
    if (!this.field) return;
    if (value) this.why.show(this.field, true);
    this.mapReady(this.field.id);
  }

  // Show the map where it is wanted and there; else say in what state it is.
  async mapReady(id) {
    const answer = this.why.answer(this.field);
    const wanted = this.opacity > 0 && Why.of(this.field);
    show(this.mapWords, wanted);
    const state = answer.state === "done" && !answer.map ? "no_map" : answer.state;
    setText(this.mapWords, state === "done" ? answer.map_words || "" : answer.words || this.say(`why.${state}`));
    if (!wanted || state !== "done") return this.stage.setMap(null);
    const path = `/clinic/fields/${encodeURIComponent(id)}/map`;
    const url = this.pictures.url(path) || (await this.pictures.get(path, { first: true, large: true }).catch(() => null));
    if (!this.field || this.field.id !== id) return undefined;
    if (!url) setText(this.mapWords, this.say("picture.failed"));
    return this.stage.setMap(url, this.opacity / 100);
  }

  toggleWhy() {
    const open = this.why.node.hidden;
    show(this.why.node, open);
    setAttribute(this.whyButton, "aria-expanded", String(open));
    if (open) this.why.show(this.field, true);
  }

  openNote() {
    if (!this.reading.screen.may_read) return;
    if (this.noteForm.hidden) this.noteText.value = this.drafts.get(this.field.id) || "";
    show(this.noteForm, true);
    setAttribute(this.noteButton, "aria-expanded", "true");
    // The grid stays where it is, unless the note were out of sight.
    this.noteText.focus({ preventScroll: true });
    this.node.scrollTop = this.noteForm.offsetTop - this.node.clientHeight / 2;
    if (this.noteForm.getBoundingClientRect().bottom > window.innerHeight) this.noteForm.scrollIntoView({ block: "nearest" });
  }

  saveNote() {
    const text = this.noteText.value.trim();
    if (text) this.act.note(this.field.id, text);
    this.noteText.value = "";
    this.closeNote();
  }

  // What was written and not saved waits for the next time.
  closeNote() {
    this.drafts.set(this.field.id, this.noteText.value);
    show(this.noteForm, false);
    setAttribute(this.noteButton, "aria-expanded", "false");
    this.act.rest();
  }

  close() {
    this.why.close();
  }
}

function noteWords(note, say) {
  if (note.unsaved) return say("note.unsaved", { text: note.text });
  return note.by ? say("note.by", { by: note.by, text: note.text }) : note.text;
}
