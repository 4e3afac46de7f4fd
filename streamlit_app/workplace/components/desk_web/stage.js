// The picture of one field: zoom about the pointer, drag, pinch, and the layers on top of it.

const MOST = 12;
const SWIPE = 50;
const DWELL_PICTURE = 60;

class Stage {
  constructor(pictures, say, { swipe }) {
    Object.assign(this, { pictures, say, swipe });
    this.picture = make("img", { class: "layer picture", alt: "", draggable: "false" });
    this.map = make("img", { class: "layer map", alt: "", draggable: "false", hidden: true });
    this.cells = draw("svg", { class: "layer outlines", "aria-hidden": "true" });
    this.plane = make("div", { class: "plane" }, this.picture, this.map, this.cells);
    this.words = make("p", { class: "stage-words", hidden: true });
    this.node = make("div", { class: "stage" }, this.plane, this.words);
    this.pointers = new Map();
    this.field = null;
    this.fit();
    const on = (name, act, options) => this.node.addEventListener(name, act, options);
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("dblclick", () => this.fit());
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.pointers.delete(event.pointerId));
  }

  show(field) {
    const same = this.field && this.field.id === field.id;
    this.field = field;
    if (same) return;
    this.fit();
    this.outline(field);
    this.setMap(null);
    this.node.style.setProperty("--shape", `${field.width || 1} / ${field.height || 1}`);
    this.node.style.setProperty("--ratio", String((field.width || 1) / (field.height || 1)));
    setAttribute(this.picture, "alt", this.say("field.title", { number: field.number }));
    show(this.words, false);
    this.load(field);
  }

  // Try once more what was refused while nobody was signed in.
  again() {
    show(this.words, false);
    this.load(this.field);
  }

  // The small picture stands at once where it is known, the large one when it is there.
  async load(field, tries = 0) {
    const path = fieldPicture(field.id, 1024);
    const small = this.pictures.url(path) || this.pictures.url(fieldPicture(field.id, 160));
    if (small) this.picture.src = small;
    else this.picture.removeAttribute("src");
    this.whole = false;
    // Who only passes by sees the small picture; the large one is not fetched for it.
    if (!this.pictures.url(path)) await sleep(DWELL_PICTURE);
    if (this.field.id !== field.id) return;
    try {
      const url = await this.pictures.get(path, { first: true, large: true });
      if (this.field.id === field.id) this.picture.src = url;
    } catch (error) {
      if (error.name === "AbortError" || !this.field || this.field.id !== field.id) return;
      setText(this.words, error instanceof Refused && error.message ? error.message : this.say("picture.failed"));
      show(this.words, true);
      await sleep(Math.min(15000, 1000 * 2 ** tries));
      const wanted = this.field && this.field.id === field.id && !this.pictures.closed.signal.aborted;
      if (wanted && !(error instanceof Refused && !error.passing)) {
        show(this.words, false);
        this.load(field, tries + 1);
      }
    }
  }

  // From about one and a half times on, the picture of 1,024 pixels is too coarse.
  async sharpen() {
    const field = this.field;
    if (!field || this.whole || this.scale < 1.6 || Math.max(field.width, field.height) <= 1024) return;
    this.whole = true;
    const url = await this.pictures.get(fieldPicture(field.id, 0), { first: true, large: true }).catch(() => null);
    if (url && this.field && this.field.id === field.id) this.picture.src = url;
  }

  outline(field) {
    setAttribute(this.cells, "viewBox", `0 0 ${field.width || 1} ${field.height || 1}`);
    const ring = ([x, y, across], name) => draw("circle", { class: name, cx: x, cy: y, r: across / 2 });
    const rings = (field.cells || []).flatMap((cell) => [ring(cell, "under"), ring(cell, "over")]);
    this.cells.replaceChildren(...rings);
  }

  setCells(shown) {
    this.cells.style.display = shown ? "" : "none";
  }

  setMap(url, opacity = 0) {
    if (url && this.map.getAttribute("src") !== url) this.map.src = url;
    this.map.style.opacity = String(opacity);
    show(this.map, !!url && opacity > 0);
  }

  fit() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.place();
  }

  place() {
    const { width, height } = this.node ? this.node.getBoundingClientRect() : { width: 0, height: 0 };
    const bound = (value, size) => Math.min(0, Math.max(size - size * this.scale, value));
    this.x = bound(this.x, width);
    this.y = bound(this.y, height);
    this.plane.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    if (this.node) this.node.classList.toggle("zoomed", this.scale > 1);
  }

  // What is under the point stays under it.
  zoom(factor, point) {
    const box = this.node.getBoundingClientRect();
    const at = point || { x: box.left + box.width / 2, y: box.top + box.height / 2 };
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    const [px, py] = [at.x - box.left, at.y - box.top];
    this.x = px - ((px - this.x) * scale) / this.scale;
    this.y = py - ((py - this.y) * scale) / this.scale;
    this.scale = scale;
    this.place();
    this.sharpen();
  }

  wheel(event) {
    if (event.deltaY > 0 && this.scale <= 1) return; // the page scrolls on
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * 0.0015), { x: event.clientX, y: event.clientY });
  }

  down(event) {
    if (event.button > 0) return;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.start = { x: event.clientX, y: event.clientY, touch: event.pointerType !== "mouse" };
    try {
      this.node.setPointerCapture(event.pointerId);
    } catch {
      // The pointer is gone already.
    }
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
      this.zoom(apart(now, other) / apart(before, other), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      this.start = null;
    } else if (this.scale > 1) {
      this.x += now.x - before.x;
      this.y += now.y - before.y;
      this.place();
    }
    this.pointers.set(event.pointerId, now);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const start = this.start;
    this.start = null;
    if (!start || !start.touch || this.scale > 1) return;
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) this.swipe(dx < 0 ? 1 : -1);
  }
}
