// The thumbnails, under their headings. A change repaints its own cell, never the grid.

class Grid {
  constructor(reading, pictures, say, { select, open }) {
    Object.assign(this, { reading, pictures, say, select, open });
    this.node = make("div", { class: "grid" });
    this.cells = new Map();
    this.groups = new Map();
    this.selected = null;
    this.watch = new IntersectionObserver((seen) => seen.forEach((entry) => this.seen(entry)), {
      rootMargin: "400px",
    });
    this.node.addEventListener("click", (event) => this.pressed(event));
    this.node.addEventListener("dblclick", (event) => this.pressed(event));
  }

  pressed(event) {
    const cell = event.target.closest("[role=option]");
    if (!cell) return;
    this.select(cell.dataset.field);
    this.open();
  }

  // Put cells where they belong. Only groups whose members changed are touched.
  arrange() {
    const focus = [...this.cells.values()].find((cell) => cell.node === focused());
    const wanted = [];
    for (const [name, ids] of this.reading.groups) {
      const group = this.groups.get(name) || this.makeGroup(name);
      wanted.push(group.node);
      setText(group.count, String(ids.length));
      const nodes = ids.map((id) => (this.cells.get(id) || this.makeCell(id)).node);
      const same = nodes.length === group.box.children.length && nodes.every((n, i) => group.box.children[i] === n);
      if (!same) group.box.replaceChildren(...nodes);
    }
    if (wanted.length !== this.node.children.length || wanted.some((n, i) => this.node.children[i] !== n)) {
      this.node.replaceChildren(...wanted);
    }
    for (const [id, cell] of this.cells) if (!this.reading.fields.has(id)) this.drop(id, cell);
    if (focus && focus.node.isConnected) focus.node.focus({ preventScroll: true });
  }

  drop(id, cell) {
    this.watch.unobserve(cell.node);
    cell.node.remove();
    this.cells.delete(id);
  }

  makeGroup(name) {
    const id = `group-${this.groups.size}`;
    const count = make("span", { class: "count" });
    const title = make("h3", { id }, make("span", { text: groupWord(name, this.reading, this.say) }), count);
    const box = make("div", { class: "cells", role: "listbox", "aria-labelledby": id });
    const group = { node: make("section", { class: "group", data: { group: name } }, title, box), count, box };
    this.groups.set(name, group);
    return group;
  }

  makeCell(id) {
    const cell = { id };
    cell.picture = make("img", { alt: "", draggable: "false" });
    cell.number = make("span", { class: "number" });
    cell.mine = make("span", { class: "mine", hidden: true });
    cell.dot = make("span", { class: "dot", hidden: true });
    cell.alarm = make("span", { class: "alarm", text: "!", hidden: true });
    cell.mark = make("span", { class: "mark-box" });
    cell.word = make("span", { class: "word" });
    const thumb = make("span", { class: "thumb" }, cell.picture, cell.number, cell.mine, cell.dot, cell.alarm);
    const caption = make("span", { class: "caption" }, cell.mark, cell.word);
    const data = { field: id };
    cell.node = make("div", { class: "cell", role: "option", tabindex: "-1", "aria-selected": "false", data }, thumb, caption);
    this.cells.set(id, cell);
    this.watch.observe(cell.node);
    this.paint(id);
    return cell;
  }

  paint(id) {
    const cell = this.cells.get(id);
    const field = this.reading.fields.get(id);
    if (!cell || !field) return;
    const label = this.reading.label(field);
    setText(cell.number, String(field.number));
    setMark(cell.mark, field.state === "accepted" ? field.tone : field.state);
    setText(cell.word, stateWord(field, this.reading, this.say));
    show(cell.mine, label !== null);
    if (label !== null) setText(cell.mine, this.reading.display(label));
    show(cell.dot, this.reading.unsaved(field));
    show(cell.alarm, this.reading.errors.has(id));
    setAttribute(cell.node, "aria-label", fieldAloud(field, this.reading, this.say));
    setAttribute(cell.node, "title", field.name);
    setAttribute(cell.node, "data-state", field.state);
  }

  seen(entry) {
    const cell = this.cells.get(entry.target.dataset.field);
    if (!cell) return;
    cell.inSight = entry.isIntersecting;
    const path = fieldPicture(cell.id, 160);
    if (!cell.inSight) this.pictures.forget(path);
    else if (!cell.picture.src) this.load(cell, path, 0);
  }

  async load(cell, path, tries) {
    try {
      cell.picture.src = await this.pictures.get(path);
      cell.node.classList.add("loaded");
    } catch (error) {
      if (error.name === "AbortError" || (error instanceof Refused && !error.passing)) return;
      await sleep(Math.min(15000, 1000 * 2 ** tries));
      if (cell.inSight && cell.node.isConnected && !this.pictures.closed.signal.aborted) this.load(cell, path, tries + 1);
    }
  }

  // Pictures that were refused while nobody was signed in.
  again() {
    for (const cell of this.cells.values()) {
      if (cell.inSight && !cell.picture.src) this.load(cell, fieldPicture(cell.id, 160), 0);
    }
  }

  mark(id, { focus = false } = {}) {
    const before = this.cells.get(this.selected);
    const now = this.cells.get(id);
    if (before && before !== now) {
      setAttribute(before.node, "aria-selected", "false");
      setAttribute(before.node, "tabindex", "-1");
    }
    this.selected = id;
    if (!now) return;
    setAttribute(now.node, "aria-selected", "true");
    setAttribute(now.node, "tabindex", "0");
    if (focus) {
      now.node.focus({ preventScroll: true });
      now.node.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  focus() {
    const cell = this.cells.get(this.selected);
    if (cell) cell.node.focus({ preventScroll: true });
  }

  // The cell above or below: the nearest row in that direction, and in it the nearest cell.
  vertical(id, by) {
    const here = this.cells.get(id).node.getBoundingClientRect();
    let best = null;
    for (const other of this.reading.order) {
      const box = this.cells.get(other).node.getBoundingClientRect();
      const down = (box.top - here.top) * by;
      if (down < here.height / 2) continue;
      const distance = down * 1000 + Math.abs(box.left - here.left);
      if (best === null || distance < best.distance) best = { other, distance };
    }
    return best ? best.other : id;
  }

  close() {
    this.watch.disconnect();
  }
}

function fieldPicture(id, side) {
  return `/clinic/fields/${encodeURIComponent(id)}/picture?side=${side}`;
}
