// The keys of the desk. They act where the desk, nothing, or a button of the page has the focus; never in a
// text, a choice, a dialog or a menu.

const KEYS_KEPT = "allkit.desk.keys";
const KEYS = {
  other: "o", inadequate: "x", accept: "enter", undo: "u", map: "m", cells: "c", note: "n", unread: "f", sheet: "?",
};
const FIXED = {
  arrowleft: "left", arrowright: "right", arrowup: "up", arrowdown: "down",
  "+": "in", "=": "in", "-": "out", 0: "fit", escape: "escape", home: "home", end: "end", " ": "open",
};
const NOT_REPEATED = new Set(["accept", "undo", "map", "cells", "note", "sheet"]);

// The name of the key that was pressed, the same on keyboards of other scripts and with digits above.
function keyName(event) {
  const digit = /^Digit(\d)$/.exec(event.code || "");
  if (digit && !event.shiftKey && !/^\d$/.test(event.key)) return digit[1];
  const letter = /^Key([A-Z])$/.exec(event.code || "");
  if (letter && event.key.length === 1 && event.key.charCodeAt(0) > 591) return letter[1].toLowerCase();
  return event.key.toLowerCase();
}

class Keys {
  // `act(action)` does it, or says `false` where there was nothing to do; `classes()` are the names of the classes in their order.
  constructor(root, { act, classes, dialogs, escape }) {
    Object.assign(this, { root, act, classes, dialogs, escape });
    this.own = this.kept();
    this.listen = (event) => this.pressed(event);
    // Before the page's own shortcuts: Streamlit takes C and R for itself.
    window.addEventListener("keydown", this.listen, true);
  }

  kept() {
    try {
      const kept = JSON.parse(keptText(KEYS_KEPT) || "{}");
      return kept && typeof kept === "object" ? kept : {};
    } catch {
      return {};
    }
  }

  keep(own) {
    this.own = own;
    keepText(KEYS_KEPT, JSON.stringify(own));
  }

  // What can be done by a key, as [action, key]: the classes first.
  all() {
    const named = ["other", "inadequate"];
    const classes = this.classes().filter((name) => !named.includes(name)).slice(0, 9);
    const digits = classes.map((name, n) => [`class:${name}`, String(n + 1)]);
    return [...digits, ...Object.entries(KEYS)].map(([action, key]) => [action, this.own[action] || key]);
  }

  of(action) {
    const found = this.all().find(([one]) => one === action);
    return found ? found[1] : "";
  }

  ofClass(name) {
    return keyWords(this.of(name === "other" || name === "inadequate" ? name : `class:${name}`));
  }

  // Another key for an action; what else has that key, or null where it is free.
  change(action, key) {
    const taken = this.all().find(([one, has]) => has === key && one !== action);
    if (taken || key in FIXED || key === "tab" || key === "shift") return taken ? taken[0] : "fixed";
    this.keep({ ...this.own, [action]: key });
    return null;
  }

  pressed(event) {
    const inside = event.composedPath().includes(this.root);
    if (event.isComposing) return;
    const active = focused();
    const nowhere = !active || active === document.body || active === document.documentElement;
    if (this.dialogs.open) return this.inDialog(event, inside || nowhere);
    if (takesText(active)) return this.inText(event, inside);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // A button of the page that was pressed last keeps the focus: keys that it does not use act here.
    if (!(inside || nowhere || plainButton(active)) || foreignDialog(this.root)) return;
    const action = this.action(keyName(event), active);
    if (!action) return;
    const held = event.repeat && (NOT_REPEATED.has(action) || action.startsWith("class:"));
    if (!held && this.act(action) === false) return;
    event.stopPropagation();
    event.preventDefault();
  }

  action(key, active) {
    const onCell = !!active && active.getAttribute && active.getAttribute("role") === "option";
    const presses = isButton(active);
    // A button that has the focus is pressed by Enter and the space bar.
    if (presses && (key === "enter" || key === " ")) return null;
    const found = this.all().find(([, has]) => has === key);
    if (found) return found[0];
    const fixed = FIXED[key];
    if (["home", "end", "open"].includes(fixed) && !onCell) return null;
    return fixed || null;
  }

  inText(event, inside) {
    if (!inside) return;
    // What is typed here is no shortcut of the page.
    if (event.key !== "Tab") event.stopPropagation();
    const done = this.escape(event);
    if (done) event.preventDefault();
  }

  inDialog(event, inside) {
    if (!inside) return;
    if (event.key !== "Tab") event.stopPropagation();
    if (this.dialogs.key(event)) event.preventDefault();
  }

  close() {
    window.removeEventListener("keydown", this.listen, true);
  }
}

const LAYERS = '[role="dialog"], dialog[open], [role="menu"], [role="listbox"], [data-testid="stPopoverBody"]';

// Whether a dialog, a menu or a popover of the page, not of the desk, is open.
function foreignDialog(root) {
  return [...document.querySelectorAll(LAYERS)].some((node) => !root.contains(node) && node.getClientRects().length > 0);
}

function isButton(node) {
  return !!node && (/^(BUTTON|A|SUMMARY)$/.test(node.tagName) || (!!node.getAttribute && node.getAttribute("role") === "button"));
}

// A button or link that uses no key but Enter and the space bar: no tab, no choice, no entry of a menu.
function plainButton(node) {
  const role = isButton(node) ? node.getAttribute("role") || "button" : "";
  return ["button", "link"].includes(role);
}

function keyWords(key) {
  const names = { enter: "↵", arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", " ": "␣" };
  return names[key] || key;
}
