/**
 * What a tab knows: the jobs, how the stream is, and who wants to hear of either. One for all clients of a hub.
 */

import { Jobs } from "./jobs.js";

/** @typedef {import("./jobs.js").Job} Job */
/** @typedef {import("./jobs.js").Batch} Batch */
/** @typedef {import("./stream.js").Status} Status */

/**
 * @typedef {object} AnyHub
 * @property {(listener: import("./hub.js").Listener) => void} join
 * @property {(listener: import("./hub.js").Listener) => void} leave
 * @property {() => void} restart
 * @property {(now?: boolean) => void} check
 */

export class View {
  /** @param {AnyHub} hub */
  constructor(hub) {
    this.hub = hub;
    this.jobs = new Jobs();
    /** @type {Status} */
    this.status = { state: "connecting" };
    this.ready = false;
    /** @type {Set<(batch: Batch) => void>} */
    this.heard = new Set();
    this.listening = false;
    const wake = () => this.hub.check(true);
    globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
    for (const event of ["pageshow", "online", "resume"]) globalThis.addEventListener?.(event, wake);
  }

  /**
   * *hear* is called after each batch and each change of the status, until the function that is given back is called.
   *
   * @param {(batch: Batch) => void} hear
   */
  subscribe(hear) {
    const each = (/** @type {Batch} */ batch) => hear(batch);
    this.heard.add(each);
    if (!this.listening) {
      this.listening = true;
      this.hub.join(this);
    }
    return () => {
      if (!this.heard.delete(each) || this.heard.size) return;
      this.listening = false;
      this.hub.leave(this);
    };
  }

  /** @param {Batch} batch */
  onBatch(batch) {
    this.ready = true;
    this.jobs.take(batch);
    for (const hear of [...this.heard]) hear(batch);
  }

  /** @param {Status} status */
  onStatus(status) {
    this.status = status;
    for (const hear of [...this.heard]) hear({ all: null, changed: [] });
  }

  /** Somebody else is signed in. */
  restart() {
    this.jobs.take({ all: [], changed: [] });
    this.ready = false;
    this.hub.restart();
  }
}
