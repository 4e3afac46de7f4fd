// Elements and words. What comes from outside (names, notes, reasons) is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function make(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

function draw(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

// A text or attribute that did not change costs nothing: 200 fields are painted often.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

function show(node, shown) {
  if (node.hidden === !!shown) node.hidden = !shown;
}

// The words of the page: `say("queue.unsaved", {n: 3})`. A value `n` chooses one or other.
function wordsOf(texts) {
  return (key, values = {}) => {
    const count = values.n === 1 ? ".one" : ".other";
    const text = "n" in values && texts[key + count] !== undefined ? texts[key + count] : texts[key];
    if (text === undefined) return key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  };
}

// The element that has the focus, looked up through shadow roots.
function focused() {
  let active = document.activeElement;
  while (active && active.shadowRoot && active.shadowRoot.activeElement) active = active.shadowRoot.activeElement;
  return active;
}

function takesText(node) {
  return !!node && (/^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName) || node.isContentEditable);
}

// Light or dark, by the page's own background, so that our own tones keep their contrast.
function setTheme(root) {
  const parts = getComputedStyle(root).backgroundColor.match(/[\d.]+/g) || [255, 255, 255];
  const [red, green, blue] = parts.map(Number);
  setAttribute(root, "data-theme", 0.3 * red + 0.59 * green + 0.11 * blue < 128 ? "dark" : "light");
}
