/**
 * A job's life as it is drawn: out of its events a lane for each attempt, with the wait that led to it.
 *
 * Pure: the same events at the same moment always give the same lanes. How a lane looks is lifeline.js's, and what the time
 * is too. A heartbeat leaves no event: of a lease is known how long it was, when progress renewed it, and when it was lost.
 */

import { clock, span } from "./words.js";

/** @typedef {{position: number, version: number, type: string, at: string, actor: string | null, data: Record<string, any>}} Happened */

/**
 * A stretch of time, or a moment, where `to` is `from`; in milliseconds since the epoch.
 *
 * @typedef {object} Part
 * @property {keyof typeof KINDS} kind
 * @property {number} from
 * @property {number} to
 * @property {string} words What it says when it is pointed at.
 * @property {Work} [work] Of an attempt only.
 */

/**
 * @typedef {object} Work
 * @property {number} lease_s
 * @property {number[]} renewed When the lease was given, and when progress renewed it.
 * @property {[number, number][]} progress How far it was when, in percent.
 * @property {string} why It ended as it did, in the words of whoever said so.
 */

/** @typedef {{name: string, worker: string, fence: number | null, parts: Part[]}} Lane */

export const KINDS = {
  scheduled: "not due yet",
  queued: "waited for a worker",
  retrying: "waited for the next attempt",
  running: "at work",
  completed: "completed",
  failed: "failed",
  lost: "lost its lease",
  silent: "nothing was heard of the worker",
  released: "given back",
  cancelled: "cancelled",
  expired: "expired",
  stop: "asked to stop",
  late: "a result that came too late was kept aside",
  other: "something else happened",
};

/** A life that goes on: what is told later is added to what there is, and each part stays the one that it was. */
export class Life {
  constructor() {
    this.taken = 0;
    /** @type {Lane[]} */
    this.lanes = [];
    /** @type {Part | null} What goes on: a wait, or an attempt. */
    this.part = null;
  }

  /** What has happened since it was last gone through is taken in. @param {readonly Happened[]} events All, oldest first. */
  goThrough(events) {
    for (const event of events.slice(this.taken)) this.take(event, Date.parse(event.at));
    this.taken = events.length;
  }

  /** What has not ended goes on until *now*. @param {number} now */
  goOn(now) {
    if (!this.part) return;
    this.part.to = now;
    this.say(this.part);
  }

  /** @param {Happened} event @param {number} at */
  take({ type, data }, at) {
    switch (type) {
      case "job.created":
        return this.wait(data.state, at);
      case "job.due":
        this.over(at);
        return this.begin("queued", at);
      case "job.started":
        return this.start(data, at);
      case "job.progressed":
        return this.progress(data, at);
      case "job.attempt_failed":
        this.end("failed", data, at);
        return this.wait("retrying", at);
      case "job.lease_expired":
        this.lose(data, at);
        return this.wait(Date.parse(data.due_at) > at ? "retrying" : "queued", at);
      case "job.released":
        this.end("released", data, at);
        return this.wait("queued", at);
      case "job.completed":
      case "job.failed":
      case "job.cancelled":
      case "job.expired":
        return this.end(/** @type {Part["kind"]} */ (type.slice("job.".length)), data, at);
      case "job.cancel_requested":
        return this.mark("stop", at, data.reason);
      case "job.late_result":
        return this.mark("late", at, "", data.report?.fence);
      default:
        return this.mark("other", at, type.slice("job.".length).replace("_", " "));
    }
  }

  /** What led to nothing yet: the attempt that it leads to takes the lane over. @param {Part["kind"]} kind @param {number} at */
  wait(kind, at) {
    this.lanes.push({ name: "Waiting", worker: "", fence: null, parts: [] });
    this.begin(kind, at);
  }

  /** @param {Part["kind"]} kind @param {number} at @param {Work} [work] */
  begin(kind, at, work) {
    this.part = { kind, from: at, to: at, words: "", work };
    this.lane.parts.push(this.part);
  }

  /** @param {number} at */
  over(at) {
    const part = this.part;
    this.part = null;
    if (!part) return;
    part.to = at;
    this.say(part);
    // A wait that was over at once was none.
    if (!part.work && part.from === at) this.lane.parts.splice(this.lane.parts.indexOf(part), 1);
  }

  /** @param {Record<string, any>} data @param {number} at */
  start({ attempt, worker, fence, lease_s }, at) {
    this.over(at);
    Object.assign(this.lane, { name: `Attempt ${attempt}`, worker: worker ?? "", fence });
    this.begin("running", at, { lease_s, renewed: [at], progress: [], why: "" });
  }

  /** @param {Record<string, any>} data @param {number} at */
  progress({ percent }, at) {
    const part = this.part;
    if (!part?.work) return;
    part.work.renewed.push(at);
    if (percent != null) part.work.progress.push([at, percent]);
  }

  /** Of an attempt it is how that went; of a job that nobody was at work on, a moment. @param {Part["kind"]} kind @param {Record<string, any>} data @param {number} at */
  end(kind, data, at) {
    const why = data.error?.message ?? data.reason ?? "";
    const part = this.part;
    if (part?.work) {
      part.kind = kind;
      part.work.why = why;
    } else this.mark(kind, at, why, data.report?.fence);
    this.over(at);
  }

  /** Nothing was heard of the worker for as long as its lease was. @param {Record<string, any>} data @param {number} at */
  lose(data, at) {
    const part = this.part;
    this.end("lost", data, at);
    if (!part?.work) return;
    const from = Math.max(part.from, at - part.work.lease_s * 1000);
    this.lane.parts.push({ kind: "silent", from, to: at, words: lasted("silent", from, at) });
  }

  /**
   * A moment, in the lane of the lease with that fence if one is named, else where things are.
   *
   * @param {Part["kind"]} kind
   * @param {number} at
   * @param {string} [why]
   * @param {number} [fence]
   */
  mark(kind, at, why, fence) {
    const lane = this.lanes.find((one) => fence !== undefined && one.fence === fence) ?? this.lane;
    const words = `${capital(KINDS[kind])}${why ? ` (${why})` : ""}, ${clock(new Date(at).toISOString())}`;
    lane.parts.push({ kind, from: at, to: at, words });
  }

  get lane() {
    if (!this.lanes.length) this.lanes.push({ name: "", worker: "", fence: null, parts: [] });
    return /** @type {Lane} */ (this.lanes.at(-1));
  }

  /** @param {Part} part */
  say(part) {
    const { name, worker } = this.lane;
    part.words = part.work ? `${name}${worker && ` by ${worker}`}: ${worked(part, part.work)}` : lasted(part.kind, part.from, part.to);
  }
}

/** @param {Part} part @param {Work} work */
function worked({ kind, from, to }, { lease_s, renewed, progress, why }) {
  const far = progress.at(-1);
  return [
    `${KINDS[kind]}${why && ` (${why})`}, ${length(from, to)}`,
    ...(far ? [`progress ${far[1]} %`] : []),
    `a lease of ${lease_s} s${renewed.length > 1 ? `, renewed by progress ${times(renewed.length - 1)}` : ""}`,
  ].join("; ");
}

/** @param {Part["kind"]} kind @param {number} from @param {number} to */
const lasted = (kind, from, to) => `${capital(KINDS[kind])}: ${length(from, to)}`;

/** @param {number} from @param {number} to */
const length = (from, to) => (to - from < 1_000 ? "less than 1 s" : span((to - from) / 1000));

/** @param {number} count */
const times = (count) => (count === 1 ? "once" : `${count} times`);

/** @param {string} text */
const capital = (text) => text[0].toUpperCase() + text.slice(1);
