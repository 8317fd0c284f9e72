/**
 * One stream of the service, taken up again for as long as somebody wants it.
 *
 * It knows three ways: a fetch that streams, a native EventSource by ticket, and a long poll where nothing else comes
 * through. Whatever happens to the connection, it goes on from the last cursor; a heartbeat whose digest is not that of
 * our own map makes it begin anew. Here is neither a tab nor a component, so that it runs in a worker as well.
 */

import { reader } from "./frames.js";
import { Jobs } from "./jobs.js";

/** @typedef {import("./frames.js").Frame} Frame */
/** @typedef {import("./jobs.js").Job} Job */
/** @typedef {import("./jobs.js").Batch} Batch */
/** @typedef {"connecting" | "live" | "degraded" | "offline" | "signed-out" | "denied" | "superseded" | "closed"} State */

/**
 * How the stream is, and why.
 *
 * @typedef {object} Status
 * @property {State} state `degraded` is live by long polls.
 * @property {string} [reason]
 */

/**
 * @typedef {object} Surroundings
 * @property {string} baseUrl
 * @property {((again: boolean) => Promise<string | null>)} token
 * @property {typeof fetch} fetch
 * @property {"auto" | "fetch" | "eventsource" | "longpoll"} transport
 * @property {(batch: Batch) => void} onBatch
 * @property {(status: Status) => void} onStatus
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const MUTE_MS = 10_000;
const POLL_S = 25;
const POLL_PATIENCE_MS = (POLL_S + 10) * 1_000;
/** A poll that brought nothing, and was back sooner than this, is not waited for by the service. */
const POLL_SHORT_MS = 1_000;
/** What the service says to who was superseded; a native EventSource does not show it. */
const SUPERSEDED_MS = 300_000;
const BEATS_MISSED = 2.5;

/** The frames whose id is where one goes on; a native EventSource shows the last id at every other too. */
const CARRIES = new Set(["snapshot", "job", "ready"]);

/** @param {Frame} frame */
const isNews = ({ event }) => event === "job" || event === "snapshot";

export class Stream {
  /** @param {Surroundings} around */
  constructor(around) {
    this.around = around;
    this.jobs = new Jobs();
    /** @type {Status} */
    this.status = { state: "connecting" };
    /** @type {string | null} */
    this.cursor = null;
    this.ready = false;
    this.running = false;
    this.beatMs = 15_000;
    this.attempts = 0;
    this.mutes = 0;
    this.heardAt = 0;
    /** @type {number | null} */
    this.retryMs = null;
    /** @type {AbortController | null} */
    this.connection = null;
    /** @type {(() => void) | null} */
    this.hurry = null;
    /** @type {Batch} */
    this.batch = { all: null, changed: [] };
    /** @type {Job[]} */
    this.parts = [];
  }

  start() {
    if (this.running) return;
    this.running = true;
    this.watchdog = setInterval(() => this.check(), 5_000);
    this.run();
  }

  stop() {
    this.running = false;
    clearInterval(this.watchdog);
    this.connection?.abort();
    this.hurry?.();
    this.say({ state: "closed" });
  }

  /**
   * The machine slept, the network came back, the tab is seen again: a connection that is silent is given up, a wait ends.
   *
   * @param {boolean} [now] There is reason to believe that it works again.
   */
  check(now = false) {
    if (!this.running) return;
    const patienceMs = this.way() === "longpoll" ? POLL_PATIENCE_MS : BEATS_MISSED * this.beatMs;
    if (this.connection && Date.now() - this.heardAt > patienceMs) this.connection.abort();
    if (now) {
      this.attempts = 0;
      this.hurry?.();
    }
  }

  async run() {
    let again = false;
    while (this.running) {
      const connection = (this.connection = new AbortController());
      this.retryMs = null;
      this.parts = [];
      /** @type {number | string} The status of a refusal, or how it went. */
      let outcome = "lost";
      const way = this.way();
      try {
        outcome = await this.connect(connection.signal, again);
      } catch {
        // Cut, refused by the network, or given up: it is taken up again. Long polls that fail as well prove that it may
        // have been the network all the time, and not a proxy that buffers: streaming is tried once more.
        if (way === "longpoll" && this.mutes > 1) this.mutes = 1;
      }
      connection.abort();
      this.connection = null;
      if (!this.running) return;
      // Whoever comes with another token may be somebody else, to whom our list means nothing.
      if (outcome === 401) this.cursor = null;
      if (outcome === 401 && !again) {
        again = true;
        continue;
      }
      again = false;
      if (outcome === 401) this.say({ state: "signed-out" });
      else if (outcome === 403 || outcome === 404 || outcome === 422) this.say({ state: "denied", reason: `${outcome}` });
      else if (this.status.state !== "superseded" && outcome !== "polled" && outcome !== "hasty")
        this.say({ state: "offline", reason: `${outcome}` });
      if (outcome !== "polled") await this.wait();
    }
  }

  /**
   * @param {AbortSignal} signal
   * @param {boolean} again
   */
  async connect(signal, again) {
    this.heardAt = Date.now();
    const token = await unless(signal, this.around.token(again));
    const way = this.way();
    if (way === "eventsource") return this.listen(signal, token);
    /** @type {Record<string, string>} */
    const headers = { Accept: way === "longpoll" ? "application/json" : "text/event-stream" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const askedAt = (this.heardAt = Date.now());
    const mute = way === "longpoll" ? undefined : setTimeout(() => this.muted(), MUTE_MS);
    try {
      const query = new URLSearchParams();
      if (this.cursor) query.set("after", this.cursor);
      if (way === "longpoll") query.set("wait_s", this.ready ? `${POLL_S}` : "0");
      const answer = await this.around.fetch(`${this.around.baseUrl}/api/stream?${query}`, {
        headers,
        signal,
        credentials: "include",
        cache: "no-store",
      });
      if (answer.status !== 200) {
        this.retryMs = Number(answer.headers.get("Retry-After")) * 1000 || null;
        return answer.status;
      }
      if (way === "longpoll") {
        const wasReady = this.ready;
        const { frames } = await answer.json();
        if (this.heard(frames)) return "bye";
        return wasReady && Date.now() - askedAt < POLL_SHORT_MS && !frames.some(isNews) ? "hasty" : "polled";
      }
      return await this.read(/** @type {ReadableStream<Uint8Array>} */ (answer.body), mute);
    } finally {
      clearTimeout(mute);
    }
  }

  way() {
    const { transport } = this.around;
    if (transport !== "auto") return transport;
    return this.mutes > 1 || typeof ReadableStream === "undefined" || typeof TextDecoder === "undefined" ? "longpoll" : "fetch";
  }

  muted() {
    this.mutes += 1;
    this.connection?.abort();
  }

  /**
   * @param {ReadableStream<Uint8Array> | null} body
   * @param {ReturnType<typeof setTimeout> | undefined} mute
   */
  async read(body, mute) {
    if (!body?.getReader) {
      // A fetch that cannot stream, such as React Native's.
      this.mutes = 2;
      return "polled";
    }
    const [source, decoder, frames] = [body.getReader(), new TextDecoder(), reader()];
    for (;;) {
      const { done, value } = await source.read();
      if (done) return "ended";
      this.heardAt = Date.now();
      const whole = frames(decoder.decode(value, { stream: true }));
      if (whole.length) clearTimeout(mute);
      if (this.heard(whole)) return "bye";
    }
  }

  /**
   * @param {AbortSignal} signal
   * @param {string | null} token
   * @returns {Promise<number | string>}
   */
  async listen(signal, token) {
    const { baseUrl } = this.around;
    const answer = await this.around.fetch(`${baseUrl}/api/stream/tickets`, {
      method: "POST",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      credentials: "include",
      signal,
    });
    if (answer.status !== 201) {
      this.retryMs = Number(answer.headers.get("Retry-After")) * 1000 || null;
      return answer.status;
    }
    const query = new URLSearchParams({ ticket: (await answer.json()).ticket });
    if (this.cursor) query.set("after", this.cursor);
    return new Promise((resolve) => {
      const source = new EventSource(`${baseUrl}/api/stream?${query}`, { withCredentials: true });
      const end = (/** @type {string} */ how) => {
        source.close();
        resolve(how);
      };
      signal.addEventListener("abort", () => end("lost"));
      // A ticket is good once, so that its own attempts to come back are of no use.
      source.onerror = () => end("lost");
      for (const event of ["hello", "snapshot", "job", "ready", "hb", "reset", "bye"]) {
        source.addEventListener(event, (message) => {
          this.heardAt = Date.now();
          const { data, lastEventId } = /** @type {MessageEvent} */ (message);
          if (this.heard([{ event, data: JSON.parse(data), id: lastEventId || null }])) end("bye");
        });
      }
    });
  }

  /**
   * Everything that *frames* say has been taken in, and is published at once; true if the service said bye.
   *
   * @param {Frame[]} frames
   */
  heard(frames) {
    let bye = false;
    for (const { event, id, data, retry } of frames) {
      if (event === "hello") this.beatMs = data.heartbeat_s * 1000;
      else if (event === "reset") this.cursor = null;
      else if (event === "snapshot") {
        this.parts.push(...data.jobs);
        if (!data.more) {
          this.batch = { all: this.parts, changed: [] };
          this.parts = [];
        }
      } else if (event === "job") this.batch.changed.push(data.job);
      else if (event === "ready") {
        this.ready = true;
        // Not to nothing: a connection that is cut as soon as it is ready must not be taken up again at once, for ever.
        this.attempts = Math.min(this.attempts, 2);
        if (this.way() === "fetch") this.mutes = 0;
        this.say({ state: this.way() === "longpoll" ? "degraded" : "live" });
      } else if (event === "bye") {
        bye = true;
        this.retryMs = retry ?? (data.reason === "superseded" ? SUPERSEDED_MS : null);
        if (data.reason === "superseded") this.say({ state: "superseded", reason: data.reason });
        // Who comes next is the user, whose list has more on it than the guest's.
        if (data.reason === "claimed") this.cursor = null;
      }
      if (id && CARRIES.has(event)) this.cursor = id;
      if (event === "hb") {
        this.attempts = 0;
        this.publish();
        // Another map than the service's: begin anew, whatever the reason.
        if (data.digest === this.jobs.digest()) this.cursor = id;
        else {
          this.cursor = null;
          this.connection?.abort();
        }
      }
    }
    this.publish();
    return bye;
  }

  publish() {
    const { batch } = this;
    // Nothing is shown before the service has said that all of it is here.
    if (!this.ready || !(batch.all || batch.changed.length)) return;
    this.batch = { all: null, changed: [] };
    this.jobs.take(batch);
    this.around.onBatch(batch);
  }

  /** @param {Status} status */
  say(status) {
    if (status.state === this.status.state && status.reason === this.status.reason) return;
    this.status = status;
    this.around.onStatus(status);
  }

  /** Until it is time to try again, or somebody has reason to hurry. */
  async wait() {
    const bound = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.attempts);
    this.attempts += 1;
    const stays = this.status.state === "signed-out" || this.status.state === "denied";
    await new Promise((resolve) => {
      // Who is not let in is not let in a second later either: somebody has to say that there is reason to hope.
      const timer = stays ? undefined : setTimeout(resolve, this.retryMs ?? Math.random() * bound);
      this.hurry = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
    this.hurry = null;
    if (this.running && this.status.state !== "superseded") this.say({ state: "connecting" });
  }
}

/**
 * What *promise* brings, unless *signal* comes first.
 *
 * @template T
 * @param {AbortSignal} signal
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
function unless(signal, promise) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error("given up")), { once: true });
    promise.then(resolve, reject);
  });
}
