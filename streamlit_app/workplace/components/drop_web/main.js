// The drop zone: what Streamlit calls; the sending itself is in the uploader.

const LIMIT = 200 * 2 ** 20;
const ZIP_LIMIT = 2 * 2 ** 30;
const TOKEN_WAIT = 3000;
const ROWS = 100;
const PAINT_EVERY = 120;
const ZONES = new WeakMap();

class Zone {
  constructor(root, data, trigger) {
    Object.assign(this, { root, data, trigger });
    this.say = wordsOf(data.texts);
    this.net = new Net(data.token, data.base || "");
    this.limit = data.limit || LIMIT;
    this.zipLimit = data.zip_limit || ZIP_LIMIT;
    this.asks = 0;
    this.build();
    this.follow(data.case ? registry().uploads.get(data.case) : null);
  }

  build() {
    const { say, root } = this;
    const picker = (name, folder) => {
      const input = make("input", { type: "file", multiple: true, hidden: true, webkitdirectory: folder, tabindex: "-1", "aria-hidden": "true", "aria-label": say(name) });
      input.addEventListener("change", () => {
        this.take([...input.files]);
        input.value = "";
      });
      const button = make("button", { type: "button", class: folder ? "" : "accept", on: { click: () => input.click() }, text: say(name) });
      return [button, input];
    };
    this.words = make("p", { class: "words", text: say(this.data.case ? "words_more" : "words") });
    this.limits = make("p", { class: "quiet", text: say("limits", this.sizes()) });
    this.zone = make("div", { class: "zone" }, this.words, make("div", { class: "row" }, ...picker("files", false), ...picker("folder", true)), this.limits);
    this.bar = make("progress", { max: 1, value: 0, "aria-label": say("progress_label") });
    this.progress = make("p", { class: "progress", role: "status", "aria-live": "polite" });
    this.cancel = make("button", { type: "button", on: { click: () => this.upload.cancel() }, text: say("cancel") });
    this.again = make("button", { type: "button", on: { click: () => this.sendAgain() }, text: say("again") });
    this.open = make("button", { type: "button", on: { click: () => this.trigger("opened", { case: this.upload.case }) }, text: say("open") });
    this.row = make("div", { class: "state", hidden: true }, this.bar, this.progress, this.cancel, this.again, this.open);
    this.skipped = make("p", { class: "quiet", hidden: true });
    this.results = make("ul", { class: "results" });
    root.setAttribute("dir", this.data.direction === "rtl" ? "rtl" : "ltr");
    root.classList.toggle("large", !!this.data.large);
    root.replaceChildren(this.zone, this.row, this.skipped, this.results);
    this.zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.zone.classList.add("over");
    });
    this.zone.addEventListener("dragleave", () => this.zone.classList.remove("over"));
    this.zone.addEventListener("drop", (event) => this.drop(event));
  }

  async drop(event) {
    event.preventDefault();
    this.zone.classList.remove("over");
    try {
      await this.take(await dropped(event.dataTransfer));
    } catch {
      setText(this.skipped, this.say("unreadable"));
      show(this.skipped, true);
    }
  }

  // Drops are taken one after the other: what is looked at first is sent first.
  take(files) {
    this.taking = (this.taking || Promise.resolve()).catch(() => {}).then(() => this.takeNow(files));
    return this.taking;
  }

  async takeNow(files) {
    const { kept, left } = withoutSystemFiles(files);
    show(this.skipped, left > 0 || !kept.length);
    setText(this.skipped, kept.length ? this.say("skipped", { n: left }) : this.say("nothing"));
    if (!kept.length) return;
    const { fresh, user } = this;
    // Other words about the patient mean another case than the one that was made before.
    const zips = await zipsAmong(kept.filter((file) => file.size > this.limit));
    const other = this.upload && !this.data.case && JSON.stringify(this.upload.fresh) !== JSON.stringify(fresh);
    if (other) this.opened = false;
    // A letter alone makes no case of a patient.
    const placed = this.data.case || (this.upload && !other && this.upload.case);
    const none = placed || (await anyField(kept)) ? null : { what: this.say("no_field.what"), todo: this.say("no_field.todo") };
    if (!this.upload || other) this.follow(Upload.of(this.net, this.data.case, { fresh, user }));
    if (!this.opened) {
      this.opened = true;
      this.upload.opened = (case_) => this.trigger("opened", { case: case_ });
    }
    this.upload.add(kept, (file) => none || this.tooLarge(file, zips), this.say);
  }

  get fresh() {
    return this.data.new || {};
  }

  get user() {
    return this.data.user || "";
  }

  sizes() {
    return { megabytes: Math.round(this.limit / 2 ** 20), gigabytes: Math.round(this.zipLimit / 2 ** 30) };
  }

  tooLarge(file, zips) {
    const zip = zips.has(file);
    if (file.size <= (zip ? this.zipLimit : this.limit)) return null;
    const kind = zip ? "zip" : "image";
    return { what: this.say(`too_large.what_${kind}`, this.sizes()), todo: this.say(`too_large.todo_${kind}`) };
  }

  sendAgain() {
    if (!this.upload.case) this.upload.fresh = this.fresh;
    this.upload.again(this.say);
  }

  follow(upload) {
    if (this.unfollow) this.unfollow();
    this.upload = upload;
    this.unfollow = upload ? upload.changed.add(() => this.moved()) : null;
    if (!upload) return;
    upload.renew(this.user, this.data.token);
    this.moved();
  }

  moved() {
    this.paint();
    if (this.upload.signedOut && !this.asking) this.askToken();
  }

  // After a restart of the server nobody knows this page's token: a run of the page gives another, or shows
  // the sign-in. Asked again, as the page may not be connected yet.
  askToken() {
    this.asks += 1;
    try {
      this.trigger("token", { at: Date.now() * 1000 + this.asks });
    } catch {
      // The page is not connected.
    }
    this.asking = setTimeout(() => {
      this.asking = 0;
      if (this.upload && this.upload.signedOut) this.askToken();
    }, TOKEN_WAIT);
  }

  // Many files change the lines often: some times a second is enough.
  paint() {
    if (this.asked) return;
    this.asked = setTimeout(() => {
      this.asked = 0;
      this.paintNow();
    }, PAINT_EVERY);
  }

  paintNow() {
    const { upload, say } = this;
    const { files, left } = upload;
    show(this.row, files.length > 0);
    setAttribute(this.bar, "max", Math.max(1, files.length));
    this.bar.value = files.length - left;
    show(this.bar, left > 0);
    show(this.cancel, left > 0);
    show(this.again, files.some((one) => one.state === "failed"));
    show(this.open, !this.data.case && !!upload.case && left === 0);
    const count = (state) => files.filter((one) => one.state === state).length;
    const states = ["added", "again", "refused", "failed", "cancelled"].filter((state) => count(state));
    const done = states.map((state) => say(`count.${state}`, { n: count(state) })).join(", ");
    const going = upload.signedOut ? say("failed.signed_out") : say("progress", { done: files.length - left, total: files.length });
    setText(this.progress, left ? going : done);
    const order = ["refused", "failed", "sending", "again", "cancelled", "added", "waiting"];
    const rows = [...files].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
    const lines = rows.slice(0, ROWS).map((one) => this.line(one));
    if (rows.length > ROWS) lines.push(make("li", { class: "quiet", text: say("more", { n: rows.length - ROWS }) }));
    this.results.replaceChildren(...upload.elsewhere.map((text) => make("li", { class: "elsewhere", text })), ...lines);
  }

  line(one) {
    const state = make("span", { class: `tag ${one.state}`, text: this.say(`state.${one.state}`) });
    const name = make("span", { class: "name", text: one.name, dir: "auto" });
    const words = [one.what, one.todo].filter(Boolean).join(" ");
    return make("li", { class: one.state }, state, name, words ? make("span", { class: "what", text: words, dir: "auto" }) : null);
  }

  renew(data, trigger) {
    this.data = data;
    this.trigger = trigger;
    this.net.token = data.token;
    if (this.upload) this.upload.renew(this.user, data.token);
  }

  // The component goes, the files go on.
  close() {
    if (this.unfollow) this.unfollow();
    if (this.upload) this.upload.opened = null;
    clearTimeout(this.asked);
    clearTimeout(this.asking);
    this.root.replaceChildren();
  }
}

function sameZone(one, other) {
  const part = ({ case: case_, user, texts, direction, large }) => JSON.stringify([case_, user, texts, direction, large]);
  return part(one) === part(other);
}

export default function (component) {
  const { parentElement, setTriggerValue } = component;
  const data = dataOf(component);
  const root = parentElement.querySelector(".drop");
  let zone = ZONES.get(parentElement);
  if (zone && (!sameZone(zone.data, data) || zone.root !== root)) {
    zone.close();
    zone = undefined;
  }
  if (zone) zone.renew(data, setTriggerValue);
  else zone = new Zone(root, data, setTriggerValue);
  setTheme(root);
  ZONES.set(parentElement, zone);
  return () => {
    const last = ZONES.get(parentElement);
    ZONES.delete(parentElement);
    if (last) last.close();
  };
}
