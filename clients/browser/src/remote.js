/**
 * A hub that runs in the SharedWorker, as the one listener of a tab sees it: the same verbs as the hub in the tab itself.
 */

/** @typedef {import("./hub.js").Listener} Listener */

const PING_MS = 60_000;

export class RemoteHub {
  /**
   * @param {() => SharedWorker} connect
   * @param {{baseUrl: string, transport: string, token: ((again: boolean) => Promise<string | null>) | null}} around
   */
  constructor(connect, around) {
    this.connect = connect;
    this.around = around;
    /** @type {Listener | null} */
    this.listener = null;
    this.open();
    setInterval(() => this.tell("ping"), PING_MS);
    globalThis.addEventListener?.("pagehide", ({ persisted }) => persisted || this.tell("gone"));
    // Back from the back-forward cache the worker may have forgotten us.
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.open());
  }

  open() {
    const { baseUrl, transport, token } = this.around;
    const port = (this.port = this.connect().port);
    port.onmessage = async ({ data: { batch, status, ask, id, again } }) => {
      if (port !== this.port) return;
      if (batch) this.listener?.onBatch(batch);
      if (status) this.listener?.onStatus(status);
      if (ask && token) this.tell("token", { id, token: await token(again) });
    };
    // A lock that goes with the tab, where there are locks: who is given it after us knows that we are gone.
    const lock = globalThis.navigator?.locks ? `jobsvc-tab-${Math.random()}` : null;
    const begin = () => {
      this.tell("begin", { baseUrl, transport, tokens: token !== null, lock });
      if (this.listener) this.tell("join");
    };
    if (lock) navigator.locks.request(lock, () => (begin(), new Promise(() => {})));
    else begin();
  }

  /**
   * @param {string} tell
   * @param {object} [said]
   */
  tell(tell, said) {
    this.port?.postMessage({ tell, ...said });
  }

  /** @param {Listener} listener */
  join(listener) {
    this.listener = listener;
    this.tell("join");
  }

  leave() {
    this.listener = null;
    this.tell("leave");
  }

  restart() {
    this.tell("restart");
  }

  /** @param {boolean} [now] */
  check(now) {
    this.tell("check", { now });
  }
}
