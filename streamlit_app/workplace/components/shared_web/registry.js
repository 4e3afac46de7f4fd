// What has to outlive a component: readings that are not saved yet, and files on their way. Streamlit
// takes a component away when the page changes; what the reader did must go on being sent.

function registry() {
  const root = (window.__allkit = window.__allkit || {});
  root.queues = root.queues || new Map();
  root.uploads = root.uploads || new Map();
  root.files = root.files || new Map();
  root.selected = root.selected || new Map();
  root.moved = root.moved || new Listeners();
  return root;
}

// The browser asks before it closes the page while `unsaved()` is true.
function warnWhile(unsaved) {
  window.addEventListener("beforeunload", (event) => {
    if (!unsaved()) return;
    event.preventDefault();
    event.returnValue = "";
  });
}

// Texts that this browser keeps; one that keeps nothing forgets them when the page is left.
function keptText(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keepText(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // Nothing is kept here.
  }
}

class Listeners {
  constructor() {
    this.all = new Set();
  }

  add(listener) {
    this.all.add(listener);
    return () => this.all.delete(listener);
  }

  tell(...what) {
    for (const listener of [...this.all]) listener(...what);
  }
}

function sleep(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
