// What became of files that were sent to a case and are no new fields of it: kept in this tab, over a page
// that is loaded anew, until the reader closes it. File names and the server's words about them, no more.

const FILES_WAIT = 200;
const NO_FILES = { refused: [], unsent: [], again: [], elsewhere: [] };
const OVER = ["again", "refused", "failed", "cancelled", "added"];

class Files {
  static of(user, case_) {
    const name = `allkit.files.${user}.${case_}`;
    const { files } = registry();
    if (!files.has(name)) files.set(name, new Files(name));
    return files.get(name);
  }

  constructor(name) {
    this.name = name;
    this.changed = new Listeners();
    this.upload = null; // what is sent from this page
    this.before = this.kept(); // what is known from the page before
    this.timer = 0;
    window.addEventListener("pagehide", () => this.keep());
  }

  kept() {
    try {
      return { ...NO_FILES, ...JSON.parse(sessionStorage.getItem(this.name) || "{}") };
    } catch {
      return NO_FILES;
    }
  }

  follow(upload) {
    this.upload = upload;
    upload.changed.add(() => this.later());
  }

  // As lists of sentences and names. With `lost`, what would be lost if the page went now is not sent either.
  told(lost = false) {
    const { before, upload } = this;
    if (!upload) return before;
    const now = upload.files.filter((one) => !one.read);
    const chosen = new Set(upload.files.map((one) => one.name));
    const unsent = ["failed", "cancelled", ...(lost ? ["waiting", "sending"] : [])];
    return {
      refused: [...before.refused, ...now.filter((one) => one.state === "refused").map((one) => `${one.name}: ${one.what} ${one.todo}`.trim())],
      unsent: [...before.unsent.filter((name) => !chosen.has(name)), ...now.filter((one) => unsent.includes(one.state)).map((one) => one.name)],
      again: [...before.again, ...now.flatMap((one) => one.known || [])],
      elsewhere: [...before.elsewhere, ...upload.elsewhere.slice(upload.elsewhereRead || 0)],
    };
  }

  later() {
    if (!this.timer) this.timer = setTimeout(() => this.keep(), FILES_WAIT);
  }

  keep() {
    clearTimeout(this.timer);
    this.timer = 0;
    const told = this.told(true);
    try {
      if (Object.values(told).some((list) => list.length)) sessionStorage.setItem(this.name, JSON.stringify(told));
      else sessionStorage.removeItem(this.name);
    } catch {
      // A browser that keeps nothing still shows it until the page goes.
    }
  }

  // The reader has read it.
  close() {
    this.before = NO_FILES;
    if (this.upload) {
      for (const one of this.upload.files) if (OVER.includes(one.state)) one.read = true;
      this.upload.elsewhereRead = this.upload.elsewhere.length;
    }
    this.keep();
    this.changed.tell();
  }
}
