// The screen of the case, asked for again and again: often while answers come, rarely otherwise.

const WHILE_RUNNING = 250;
const AFTER_READING = 1000;
const OTHERWISE = 5000;
const LONGEST_PAUSE = 15000;

class Poll {
  // `take(screen, turn)` is told of each new screen, `failed(error)` of each failure (null: it is over).
  constructor(net, case_, { turn, take, failed }) {
    Object.assign(this, { net, case: case_, turn, take, failed });
    this.etag = null;
    this.running = false;
    this.failures = 0;
    this.asked = false;
    this.started = -WHILE_RUNNING;
    this.closed = new AbortController();
    this.timer = null;
    this.seen = () => (document.hidden ? clearTimeout(this.timer) : this.soon());
    document.addEventListener("visibilitychange", this.seen);
    this.soon();
  }

  soon() {
    clearTimeout(this.timer);
    if (this.closed.signal.aborted) return;
    // A reader at full speed does not make the server tell the whole case with every key.
    const pause = this.running ? WHILE_RUNNING : AFTER_READING;
    const wait = Math.max(0, this.started + pause - performance.now());
    if (this.busy) this.asked = true;
    else this.timer = setTimeout(() => this.ask(), wait);
  }

  async ask() {
    if (this.busy || document.hidden || this.closed.signal.aborted) return;
    this.busy = true;
    this.started = performance.now();
    this.asked = false;
    const turn = this.turn();
    let end = false;
    try {
      const headers = this.etag ? { "If-None-Match": this.etag } : {};
      const path = `/clinic/cases/${encodeURIComponent(this.case)}`;
      const answer = await this.net.ask("GET", path, { headers, signal: this.closed.signal });
      if (answer.status !== 304) {
        const screen = await answer.json();
        this.running = ["queued", "running"].includes(screen.job.state);
        // A screen that is older than the page's own readings is asked for once more, in full.
        const stale = this.take(screen, turn);
        this.etag = stale ? null : answer.headers.get("ETag");
        this.asked = this.asked || stale;
      }
      if (this.failures) this.failed(null);
      this.failures = 0;
    } catch (error) {
      if (this.closed.signal.aborted) return;
      this.failures += 1;
      end = error instanceof Refused && !error.passing;
      this.failed(error);
    } finally {
      this.busy = false;
    }
    if (end || this.closed.signal.aborted || document.hidden) return;
    this.timer = setTimeout(() => this.ask(), this.pause());
  }

  pause() {
    if (this.failures) return Math.min(LONGEST_PAUSE, 500 * 2 ** this.failures);
    if (this.asked) return Math.max(50, this.started + WHILE_RUNNING - performance.now());
    return this.running ? WHILE_RUNNING : OTHERWISE;
  }

  close() {
    this.closed.abort();
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
  }
}
