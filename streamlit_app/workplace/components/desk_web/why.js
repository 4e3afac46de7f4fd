// Why the model answered so: the map, the nearest examples and one reference of each class, asked for
// only when the reader wants them.

const DWELL = 350;
const AGAIN = 700;

class Why {
  constructor(net, pictures, say, { ready }) {
    Object.assign(this, { net, pictures, say, ready });
    this.answers = new Map();
    this.asked = new Set();
    this.node = make("div", { class: "why", hidden: true });
    this.words = make("p", { class: "why-words", role: "status" });
    this.map = make("p", { class: "quiet" });
    this.nearest = make("div", { class: "examples" });
    this.references = make("div", { class: "examples" });
    this.nearTitle = make("h3", { text: say("why.nearest") });
    this.referencesTitle = make("h3", { text: say("why.references") });
    this.node.append(this.words, this.map, this.nearTitle, this.nearest, this.referencesTitle, this.references);
    this.field = null;
    this.wanted = false;
  }

  // Whether there can be reasons: what nobody may see yet, or nobody answered, has none.
  static of(field) {
    return !["hidden", "waiting", "unreadable"].includes(field.state);
  }

  show(field, wanted) {
    const other = !this.field || this.field.id !== field.id;
    this.field = field;
    this.wanted = wanted && Why.of(field);
    if (other) this.paint();
    if (!this.wanted || this.asked.has(field.id)) return;
    clearTimeout(this.dwell);
    // Who only passes by asks for nothing.
    this.dwell = setTimeout(() => this.ask(field.id), this.shown ? DWELL : 0);
    this.shown = true;
  }

  answer(field) {
    return this.answers.get(field.id) || { state: "none" };
  }

  async ask(id) {
    if (this.closed || this.asked.has(id)) return;
    this.asked.add(id);
    const path = `/clinic/fields/${encodeURIComponent(id)}/why`;
    let method = "POST";
    let failures = 0;
    while (!this.closed) {
      try {
        const answer = await this.net.json(method, path);
        method = "GET";
        failures = 0;
        this.tell(id, answer);
        if (!["queued", "running"].includes(answer.state)) break;
      } catch (error) {
        failures += 1;
        if (failures > 5 || (error instanceof Refused && !error.passing)) {
          this.asked.delete(id);
          this.tell(id, { state: "failed", words: error instanceof Refused ? error.message : "" });
          break;
        }
      }
      await sleep(AGAIN * (1 + failures));
    }
  }

  tell(id, answer) {
    if (this.closed) return;
    this.answers.set(id, answer);
    if (this.field && this.field.id === id) {
      this.paint();
      this.ready(id);
    }
  }

  paint() {
    const answer = this.answer(this.field);
    const state = Why.of(this.field) ? answer.state : "hidden";
    setText(this.words, answer.words || this.say(`why.${state}`));
    setText(this.map, answer.map ? answer.map_words || "" : "");
    this.examples(this.nearest, this.nearTitle, answer.nearest || []);
    this.examples(this.references, this.referencesTitle, answer.references || []);
  }

  examples(box, title, examples) {
    show(title, examples.length > 0);
    box.replaceChildren(...examples.map((example) => this.example(example)));
  }

  example({ reference, display, words }) {
    const picture = make("img", { alt: display, draggable: "false" });
    const path = `/clinic/references/${encodeURIComponent(reference)}/picture?side=160`;
    this.pictures.get(path).then((url) => (picture.src = url), () => picture.classList.add("missing"));
    return make("figure", {}, picture, make("figcaption", {}, make("b", { text: display }), words ? make("span", { text: words }) : null));
  }

  close() {
    this.closed = true;
    clearTimeout(this.dwell);
  }
}
