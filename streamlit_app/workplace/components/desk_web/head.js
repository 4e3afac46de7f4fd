// The line on top: the verdict of the slide, the progress of the answers, what is not saved, what became of
// files, and the buttons that lead to the end of a reading.

const LINES = 3;
const NAMES = 3;

class Head {
  constructor(say, { ask, sheet, overview, unread, closeFiles }) {
    Object.assign(this, { say, closeFiles });
    this.tone = make("span", { class: "mark-box" });
    this.headline = make("h2", { class: "headline" });
    this.lines = make("div", { class: "lines" });
    this.bar = make("progress", { "aria-label": say("job.label"), max: 1, value: 0, hidden: true });
    this.job = make("p", { class: "job quiet" });
    this.unread = make("p", { class: "unread" });
    this.saving = make("p", { class: "saving" });
    this.trouble = make("p", { class: "trouble", hidden: true });
    this.coming = make("div", { class: "coming", hidden: true });
    this.off = make("p", { class: "quiet off", id: "why-off", hidden: true });
    this.finish = this.button("head.finish", () => ask("finish"));
    this.sign = this.button("head.sign", () => ask("sign"));
    this.next = this.button("head.unread", unread, "accept");
    show(this.next, false);
    this.keys = this.button("head.keys", sheet, "link");
    this.overview = this.button("head.overview", overview, "only-narrow");
    this.node = make(
      "header", { class: "slide" },
      make("div", { class: "what" }, make("div", { class: "line" }, this.tone, this.headline), this.lines),
      make("div", { class: "how" }, this.bar, this.job, this.unread, this.saving, this.coming),
      make("div", { class: "ends" }, make("div", { class: "row" }, this.overview, this.keys, this.next, this.finish, this.sign), this.off),
      this.trouble,
    );
  }

  button(name, act, kind) {
    return make("button", { type: "button", class: kind, on: { click: act }, text: this.say(name) });
  }

  paint(screen) {
    const { slide, job } = screen;
    setMark(this.tone, slide.tone);
    setText(this.headline, slide.headline);
    const lines = slide.lines || [];
    if (this.known !== JSON.stringify(lines)) {
      this.known = JSON.stringify(lines);
      const made = lines.map((text) => make("p", { text }));
      const more = make("details", {}, make("summary", { text: this.say("head.more", { n: lines.length - LINES }) }), ...made.slice(LINES));
      more.open = !!this.lines.querySelector("details[open]");
      this.lines.replaceChildren(...made.slice(0, LINES), ...(lines.length > LINES ? [more] : []));
    }
    show(this.bar, ["queued", "running"].includes(job.state));
    setAttribute(this.bar, "max", Math.max(1, job.total || 0));
    this.bar.value = job.done || 0;
    show(this.job, ["queued", "running", "failed"].includes(job.state) && !!job.words);
    setText(this.job, job.words || "");
    this.job.classList.toggle("error", job.state === "failed");
    setText(this.unread, screen.unread_words || "");
    // The dark button is what comes next: to sign, or to hand over to the other reader, only when nothing is
    // left to be read.
    const left = screen.unread > 0;
    show(this.next, left && screen.may_read);
    this.finish.classList.toggle("accept", !left && screen.last === "finish");
    this.sign.classList.toggle("accept", !left && screen.last !== "finish");
  }

  // Whether all is saved, and whether one may finish or sign: while it is not, why not.
  paintSaving(screen, queue) {
    const n = queue.items.length;
    const { say } = this;
    this.saving.dataset.state = n ? queue.state : "saved";
    const states = { away: "queue.away", signed_out: "queue.signed_out" };
    setText(this.saving, n ? say(states[queue.state] || "queue.unsaved", { n }) : say("queue.saved"));
    const running = screen && ["queued", "running"].includes(screen.job.state);
    const closed = screen && ["signed", "amended", "erased"].includes(screen.status);
    let why = "";
    if (!screen) why = say("head.off_loading");
    else if (n) why = say("head.off_unsaved", { n });
    else if (running) why = say("head.off_running");
    else if (closed) why = screen.may_not || say("head.off_closed");
    this.setOff(this.sign, why);
    this.setOff(this.finish, why || (screen.may_read ? "" : screen.may_not || say("head.off_closed")));
    setText(this.off, why);
    show(this.off, !!why);
  }

  setOff(button, why) {
    if (button.disabled !== !!why) button.disabled = !!why;
    setAttribute(button, "title", why || null);
    setAttribute(button, "aria-describedby", why ? "why-off" : null);
  }

  setTrouble(words) {
    setText(this.trouble, words || "");
    show(this.trouble, !!words);
  }

  // Files of this case that another part of the page still sends, and those that are no new fields of it.
  paintComing(left, told) {
    const { say } = this;
    const known = JSON.stringify([left, told]);
    if (known === this.coming.known) return;
    this.coming.known = known;
    const opened = new Set([...this.coming.querySelectorAll("details[open]")].map((one) => one.dataset.what));
    const parts = left ? [make("p", { text: say("coming.left", { n: left }) })] : [];
    const part = (what, title, lines) => {
      if (!lines.length) return;
      const list = make("ul", {}, ...lines.map((text) => make("li", { text, dir: "auto" })));
      const details = make("details", { data: { what } }, make("summary", { text: title }), list);
      details.open = opened.has(what);
      parts.push(details);
    };
    const { refused, unsent, again, elsewhere } = told;
    const named = (names) => ({ n: names.length, names: names.slice(0, NAMES).join(", ") + (names.length > NAMES ? ", …" : "") });
    part("refused", say("coming.refused", { n: refused.length }), refused);
    part("unsent", say("coming.unsent", named(unsent)), unsent);
    part("again", say("coming.again", named(again)), again);
    part("elsewhere", say("coming.elsewhere"), elsewhere);
    show(this.coming, parts.length > 0);
    if (parts.length > (left ? 1 : 0)) parts.push(make("button", { type: "button", class: "link", on: { click: this.closeFiles }, text: say("coming.close") }));
    this.coming.replaceChildren(...parts);
  }
}
