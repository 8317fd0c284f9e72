/**
 * The hub: one stream, and everybody in reach who wants to hear of it.
 *
 * It runs in the SharedWorker for all tabs, or in the tab itself. It opens the stream for the first listener and closes
 * it a little after the last has gone, so that a page that is being exchanged for another does not open it twice.
 */

import { Stream } from "./stream.js";

/** @typedef {import("./jobs.js").Batch} Batch */
/** @typedef {import("./stream.js").Status} Status */

/**
 * @typedef {object} Listener
 * @property {(batch: Batch) => void} onBatch
 * @property {(status: Status) => void} onStatus
 * @property {() => void} onReset Nothing of what was told counts any more.
 */

export const GRACE_MS = 2_000;

export class Hub {
  /** @param {Omit<import("./stream.js").Surroundings, "onBatch" | "onStatus">} around */
  constructor(around) {
    /** @type {Set<Listener>} */
    this.listeners = new Set();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.leaving = undefined;
    this.around = around;
    this.stream = this.fresh();
  }

  /** A stream that is heard for as long as it is ours: what one that was given up still says is of no account. */
  fresh() {
    /** @type {Stream} */
    const made = new Stream({
      ...this.around,
      onBatch: (batch) => made === this.stream && this.listeners.forEach((one) => one.onBatch(batch)),
      onStatus: (status) => made === this.stream && this.listeners.forEach((one) => one.onStatus(status)),
    });
    return made;
  }

  /** Another stream in the place of this one. */
  exchange() {
    const before = this.stream;
    this.stream = this.fresh();
    before.stop();
  }

  /**
   * *listener* hears of everything from now on, and first of what there is.
   *
   * @param {Listener} listener
   */
  join(listener) {
    clearTimeout(this.leaving);
    this.listeners.add(listener);
    this.stream.start();
    listener.onStatus(this.stream.status);
    if (this.stream.ready) listener.onBatch({ all: [...this.stream.jobs.list], changed: [] });
  }

  /** @param {Listener} listener */
  leave(listener) {
    this.listeners.delete(listener);
    if (this.listeners.size) return;
    clearTimeout(this.leaving);
    this.leaving = setTimeout(() => this.exchange(), GRACE_MS);
  }

  /** Somebody else is signed in now: nothing of what is known counts. */
  restart() {
    this.exchange();
    this.listeners.forEach((one) => one.onReset());
    if (this.listeners.size) this.stream.start();
  }

  /** @param {boolean} [now] */
  check(now) {
    this.stream.check(now);
  }
}
