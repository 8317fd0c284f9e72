/**
 * What a tab knows: the jobs, how the stream is, and who wants to hear of either. One for all clients of a hub.
 */

import { GRACE_MS } from "./hub.js";
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
  /**
   * @param {AnyHub} hub
   * @param {string} whose
   */
  constructor(hub, whose) {
    this.hub = hub;
    this.whose = whose;
    /** @type {Set<(batch: Batch) => void>} */
    this.heard = new Set();
    this.listening = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.forgetting = undefined;
    this.jobs = new Jobs();
    /** @type {Status} */
    this.status = { state: "connecting" };
    this.ready = false;
    const wake = () => this.hub.check(true);
    globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
    globalThis.document?.addEventListener("resume", wake);
    for (const event of ["pageshow", "online"]) globalThis.addEventListener?.(event, wake);
  }

  /** Nothing is known. */
  forget() {
    this.jobs = new Jobs();
    this.status = { state: "connecting" };
    this.ready = false;
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
      clearTimeout(this.forgetting);
      this.listening = true;
      this.hub.join(this);
    }
    return () => {
      if (!this.heard.delete(each) || this.heard.size) return;
      this.listening = false;
      this.hub.leave(this);
      // What nobody keeps up to date must not be shown to who comes later.
      this.forgetting = setTimeout(() => this.forget(), GRACE_MS);
    };
  }

  /** @param {Batch} batch */
  onBatch(batch) {
    if (!this.listening) return;
    this.ready = true;
    this.jobs.take(batch);
    this.tell(batch);
  }

  /** @param {Status} status */
  onStatus(status) {
    if (!this.listening) return;
    this.status = status;
    this.tell({ all: null, changed: [] });
  }

  /** Somebody else is signed in, as this tab said or another. */
  onReset() {
    this.forget();
    this.tell({ all: null, changed: [] });
  }

  /**
   * Everybody is told; one who throws is reported as a page's errors are, and keeps it from nobody.
   *
   * @param {Batch} batch
   */
  tell(batch) {
    for (const hear of [...this.heard]) {
      try {
        hear(batch);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  /** Somebody else is signed in. */
  restart() {
    this.forget();
    this.hub.restart();
  }
}
