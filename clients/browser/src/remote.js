/**
 * A hub that runs in the SharedWorker, as the one listener of a tab sees it: the same verbs as the hub in the tab itself.
 *
 * A worker can die, or fail to load: it is asked now and then whether it is there, started again if it is not, and given
 * up for a hub in the tab itself when that does not help.
 */

/** @typedef {import("./hub.js").Listener} Listener */
/** @typedef {import("./view.js").AnyHub} AnyHub */

const PING_MS = 20_000;
const PATIENCE_MS = 5_000;
const STARTS = 2;

/** @implements {AnyHub} */
export class RemoteHub {
  /**
   * @param {() => SharedWorker} connect
   * @param {{baseUrl: string, transport: string, token: ((again: boolean) => Promise<string | null>) | null}} around
   * @param {() => AnyHub} instead Makes the hub for a tab that gets no worker.
   */
  constructor(connect, around, instead) {
    this.connect = connect;
    this.around = around;
    this.instead = instead;
    /** @type {AnyHub | null} */
    this.own = null;
    /** @type {Listener | null} */
    this.listener = null;
    /** @type {MessagePort | null} */
    this.port = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.silence = undefined;
    this.unanswered = 0;
    /** Until the worker has begun anew, what it says is of somebody else. */
    this.deaf = false;
    this.open();
    setInterval(() => this.ping(), PING_MS);
    globalThis.addEventListener?.("pagehide", ({ persisted }) => persisted || this.tell("gone"));
    // Back from the back-forward cache the worker may have forgotten us.
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.open());
  }

  open() {
    if (this.own) return;
    this.tell("gone");
    this.deaf = false;
    const { baseUrl, transport, token } = this.around;
    /** @type {SharedWorker} */
    let worker;
    try {
      worker = this.connect();
    } catch {
      this.giveUp();
      return;
    }
    const port = (this.port = worker.port);
    worker.onerror = () => port === this.port && this.giveUp();
    port.onmessage = async ({ data: { batch, status, reset, ask, id, again } }) => {
      if (port !== this.port) return;
      this.there();
      if (reset) {
        this.deaf = false;
        this.listener?.onReset();
      }
      if (batch && !this.deaf) this.listener?.onBatch(batch);
      if (status && !this.deaf) this.listener?.onStatus(status);
      // One that fails to get its token says nothing: another tab is asked, or it is tried again.
      if (ask && token) token(again).then((value) => this.tell("token", { id, token: value }), () => {});
    };
    // A lock that goes with the tab, where there are locks: who is given it after us knows that we are gone.
    const lock = globalThis.navigator?.locks ? `jobsvc-tab-${Math.random()}` : null;
    const begin = (/** @type {string | null} */ held) => {
      if (port !== this.port) return;
      this.tell("begin", { baseUrl, transport, tokens: token !== null, lock: held });
      if (this.listener) this.tell("join");
      this.ping();
    };
    if (lock) navigator.locks.request(lock, () => (begin(lock), new Promise(() => {}))).catch(() => begin(null));
    else begin(null);
  }

  /** The worker lives: something of it was heard. */
  there() {
    clearTimeout(this.silence);
    this.silence = undefined;
    this.unanswered = 0;
  }

  ping() {
    if (this.own) return;
    this.tell("ping");
    this.silence ??= setTimeout(() => {
      this.silence = undefined;
      this.unanswered += 1;
      if (this.unanswered > STARTS) this.giveUp();
      else this.open();
    }, PATIENCE_MS);
  }

  /** There is no worker to be had here: this tab has a stream of its own. */
  giveUp() {
    clearTimeout(this.silence);
    this.port = null;
    if (this.own) return;
    this.own = this.instead();
    if (this.listener) this.own.join(this.listener);
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
    if (this.own) this.own.join(listener);
    else this.tell("join");
  }

  leave() {
    if (this.own && this.listener) this.own.leave(this.listener);
    this.listener = null;
    this.tell("leave");
  }

  restart() {
    if (this.own) {
      this.own.restart();
      return;
    }
    this.deaf = this.listener !== null;
    this.listener?.onReset();
    this.tell("restart");
  }

  /** @param {boolean} [now] */
  check(now) {
    this.own?.check(now);
    this.tell("check", { now });
    if (now) this.ping();
  }
}
