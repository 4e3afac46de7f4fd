// The dialogs of the desk: the reason for another class, the sheet of keys, and other keys.

const QUICK = ["1", "2", "3", "4", "5"];
// Keys that follow the key of a class at once were meant for the fields, not for this question.
const TOO_SOON = 600;

class Dialogs {
  constructor(root, say) {
    Object.assign(this, { root, say });
    this.open = null;
  }

  key(event) {
    return this.open.keys(event);
  }

  // Open a dialog; `keys(event)` takes the keys and says whether it did something.
  raise(name, title, children, keys) {
    if (this.open) this.shut();
    const back = focused();
    const heading = make("h2", { id: "dialog-title", text: title });
    const node = make("dialog", { class: `dialog ${name}`, "aria-labelledby": "dialog-title" }, heading, ...children);
    node.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.shut();
    });
    this.open = { node, keys, back };
    this.root.append(node);
    node.showModal();
    return node;
  }

  shut() {
    const { node, back, closed } = this.open;
    this.open = null;
    node.close();
    node.remove();
    if (closed) closed();
    if (back && back.isConnected) back.focus({ preventScroll: true });
  }

  escape(event) {
    if (event.key !== "Escape") return false;
    this.shut();
    return true;
  }

  button(name, act, props = {}) {
    return make("button", { type: "button", on: { click: act }, ...props, text: this.say(name) });
  }

  // Ask why a class differs from the accepted answer. `give(why)` is called once, or never. A reason is a
  // statement about a patient: only what was written, clicked or chosen on purpose is one.
  reason(words, give) {
    const { say } = this;
    const text = make("input", { type: "text", maxlength: 500, "aria-label": say("reason.text"), placeholder: say("reason.text"), dir: "auto" });
    const done = (why) => {
      if (!why.trim()) return text.focus();
      this.shut();
      return give(why.trim());
    };
    const quick = QUICK.map((n) =>
      make("button", { type: "button", class: "quick", on: { click: () => done(say(`reason.quick.${n}`)) } },
        make("kbd", { text: n, "aria-hidden": "true" }), make("span", { text: say(`reason.quick.${n}`) })));
    const row = make("div", { class: "row" }, this.button("reason.save", () => done(text.value), { class: "accept" }), this.button("reason.cancel", () => this.shut()));
    const children = [make("p", { text: words }), text, make("div", { class: "quicks" }, ...quick), row];
    const start = performance.now();
    this.raise("reason", say("reason.title"), children, (event) => {
      if (this.escape(event)) return true;
      const soon = event.repeat || performance.now() - start < TOO_SOON;
      if (focused() === text && event.key === "Enter") return soon || done(text.value), true;
      if (text.value || event.ctrlKey || event.metaKey || event.altKey) return false;
      const n = QUICK.indexOf(keyName(event));
      if (n >= 0 && !soon) quick[n].click();
      // A second press of the key of the class, or its being held, is no text either.
      return n >= 0 || (soon && /^\d$/.test(keyName(event))) || (event.repeat && event.key.length === 1);
    });
    text.focus();
  }

  // The keys, the place to change them, and whether a label moves on by itself.
  sheet(keys, name, { onward, setOnward, changed }) {
    const { say } = this;
    const hint = make("p", { class: "quiet", role: "status", text: say("keys.hint") });
    const list = make("dl", { class: "keys" });
    let waiting = null;
    const fill = () => {
      const rows = keys.all().map(([action, key]) => {
        const button = make("button", { type: "button", data: { action }, text: keyWords(key), "aria-label": say("keys.change", { action: name(action), key: keyWords(key) }) });
        button.addEventListener("click", () => {
          waiting = action;
          setText(hint, say("keys.press", { action: name(action) }));
        });
        return [make("dt", { text: name(action) }), make("dd", {}, button)];
      });
      const fixed = ["arrows", "zoom", "escape"].map((one) => [make("dt", { text: say(`keys.${one}`) }), make("dd", { class: "quiet", text: say(`keys.${one}_keys`) })]);
      list.replaceChildren(...rows.flat(), ...fixed.flat());
    };
    const box = make("input", { type: "checkbox", on: { change: () => setOnward(box.checked) } });
    box.checked = onward;
    const reset = () => {
      keys.keep({});
      fill();
      changed();
    };
    const row = make("div", { class: "row" }, this.button("keys.close", () => this.shut(), { class: "accept" }), this.button("keys.reset", reset));
    fill();
    const node = this.raise("sheet", say("keys.title"), [list, hint, make("label", { class: "check" }, box, make("span", { text: say("keys.onward") })), row], (event) => {
      if (waiting === null) return this.escape(event);
      const key = keyName(event);
      if (["shift", "tab", "control", "alt", "meta"].includes(key)) return false;
      const action = waiting;
      waiting = null;
      if (key === "escape") return setText(hint, say("keys.hint")), true;
      const taken = keys.change(action, key);
      const words = taken === "fixed" ? say("keys.fixed", { key: keyWords(key) }) : taken && say("keys.taken", { key: keyWords(key), action: name(taken) });
      setText(hint, words || say("keys.changed", { action: name(action), key: keyWords(key) }));
      fill();
      changed();
      node.querySelector(`[data-action="${CSS.escape(action)}"]`).focus();
      return true;
    });
    node.querySelector("button.accept").focus();
  }
}
