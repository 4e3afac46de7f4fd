// Search in a folder: browsers start no worker from `file:` addresses, so the search runs in a hidden
// frame there, behind the two methods of a worker that the theme uses. Elsewhere nothing changes.
// The name of this file tells the plugin `offline` not to fetch another one from the network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve) => {
        this.frame.addEventListener("load", () => resolve(this.run(url)), { once: true });
      });
      document.body.append(this.frame);
    }

    run(url) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = url;
      return new Promise((resolve) => {
        script.addEventListener("load", () => resolve(inside), { once: true });
        inside.document.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
