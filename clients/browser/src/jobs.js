/**
 * The active jobs as the stream tells them: a map that only ever moves forward.
 *
 * A job of a newer version wins, whatever order things come in; a snapshot replaces all. What is in here is frozen, so
 * that everybody may hold it.
 */

/** @typedef {Readonly<Record<string, any>> & {readonly id: string, readonly version: number, readonly active: boolean}} Job */

/**
 * What came at once: after a snapshot all that is active, and each job that changed, ended ones too.
 *
 * @typedef {object} Batch
 * @property {Job[] | null} all
 * @property {Job[]} changed
 */

export class Jobs {
  constructor() {
    /** @type {Map<string, Job>} */
    this.byId = new Map();
    /** @type {readonly Job[]} The same array until something changes. */
    this.list = Object.freeze([]);
  }

  /**
   * The map is as of after *batch*; true if it changed by it.
   *
   * @param {Batch} batch
   */
  take({ all, changed }) {
    let moved = all !== null;
    if (all) this.byId = new Map(all.map((job) => [job.id, Object.freeze(job)]));
    for (const job of changed) {
      const known = this.byId.get(job.id);
      if (known && known.version >= job.version) continue;
      if (job.active) this.byId.set(job.id, Object.freeze(job));
      else this.byId.delete(job.id);
      moved = moved || job.active || known !== undefined;
    }
    if (moved) this.list = Object.freeze([...this.byId.values()]);
    return moved;
  }

  /** What the service's heartbeat says of the same jobs: XOR of FNV-1a-32 of `<id>:<version>`, 8 hex digits. */
  digest() {
    let all = 0;
    for (const { id, version } of this.byId.values()) {
      let hash = 0x811c9dc5;
      for (const character of `${id}:${version}`) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
      all ^= hash;
    }
    return (all >>> 0).toString(16).padStart(8, "0");
  }
}
