/**
 * The client of jobsvc in a browser: jobs are asked for once, and then told by one stream; nothing is ever polled.
 *
 *     const client = createClient({ baseUrl: "" });
 *     const job = await client.submit({ kind: "x-post", url });
 *     await job.done;
 */

import { Hub } from "./hub.js";
import { answered, begin, drop, failed, left } from "./pending.js";
import { RemoteHub } from "./remote.js";
import { View } from "./view.js";

/** @typedef {import("./jobs.js").Job} Job */
/** @typedef {import("./stream.js").Status} Status */

/**
 * @typedef {object} Options
 * @property {string} [baseUrl] Of the service; empty for the page's own origin.
 * @property {(options: {again: boolean}) => string | null | Promise<string | null>} [getToken] A bearer token; `again`
 *   says that the last one was refused. Without it the cookie counts.
 * @property {string} [principal] Whose tabs may share a stream; the token's subject unless it is named.
 * @property {boolean} [share] One stream for all tabs, where there is a SharedWorker. True unless it is false.
 * @property {"auto" | "fetch" | "eventsource" | "longpoll"} [transport]
 * @property {typeof fetch} [fetch]
 */

/** A request that the service refused; `code` is the problem's, `job` the one that it shows. */
export class JobsvcError extends Error {
  /** @param {{status: number, code?: string, title?: string, detail?: string, job?: Job}} problem */
  constructor(problem) {
    super(problem.detail ?? problem.title ?? `the service answered ${problem.status}`);
    this.name = "JobsvcError";
    this.status = problem.status;
    this.code = problem.code;
    this.job = problem.job;
  }
}

const TRIES = 6;
/** @type {Map<string, View>} */
const views = new Map();
/** @typedef {{sees: () => View | null, move: () => void, token: ((again: boolean) => Promise<string | null>) | null}} Looker */
/** @type {Set<Looker>} */
const clients = new Set();

/** @typedef {{hear: (batch: import("./jobs.js").Batch) => void, fail: (error: unknown) => void, leave: () => void, over: boolean}} Subscription */

/** @param {Options} [options] */
export function createClient(options = {}) {
  const baseUrl = (options.baseUrl ?? "").replace(/\/+$/, "");
  const ask = options.fetch ?? ((...with_) => globalThis.fetch(...with_));
  const { getToken } = options;
  const token = getToken ? async (/** @type {boolean} */ again) => getToken({ again }) : null;
  /** Whose jobs these are, as far as one can tell from here. */
  const whose = async () => options.principal ?? (token ? bearerOf(await token(false)) : "cookie");
  /** @type {Promise<View> | null} */
  let opening = null;
  /** @type {View | null} */
  let view = null;
  let moves = 0;
  /** @type {Set<Subscription>} */
  const subscriptions = new Set();
  let closed = false;
  const open = () => (opening ??= opened());

  /** The view, once it is known whose it is: a token that cannot be had now can be had later. */
  async function opened() {
    const move = moves;
    for (let tries = 1; ; tries += 1) {
      try {
        const made = viewOf(baseUrl, options, { whose: await whose(), token, ask });
        if (move === moves) view = made;
        return made;
      } catch (error) {
        if (closed) throw error;
        await pause(longer(tries));
      }
    }
  }

  /** Somebody else is signed in: what was heard of is heard of anew, as they see it. */
  function move() {
    moves += 1;
    opening = view = null;
    for (const one of subscriptions) {
      one.leave();
      one.leave = () => {};
      one.hear({ all: null, changed: [] });
      attach(one);
    }
  }

  /** @param {Subscription} one */
  function attach(one) {
    const move = moves;
    open().then(
      (made) => {
        if (one.over || move !== moves) return;
        const leave = made.subscribe(one.hear);
        // It may have had enough of what it was told in the meantime.
        if (one.over) leave();
        else one.leave = leave;
        if (made.ready && !one.over) one.hear({ all: null, changed: [] });
      },
      () => {},
    );
  }

  /**
   * @param {string} path
   * @param {{method?: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} [request]
   */
  async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
    for (const again of [false, true]) {
      const bearer = token && (await token(again));
      const answer = await ask(`${baseUrl}${path}`, {
        method,
        signal,
        credentials: "include",
        headers: {
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...(bearer && { Authorization: `Bearer ${bearer}` }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (answer.status === 401 && token && !again) continue;
      const told = answer.status === 204 ? null : await answer.json().catch((/** @type {unknown} */ error) => {
        // A proxy refuses in words of its own; but what it says instead of the service is no answer.
        if (answer.ok) throw error;
        return {};
      });
      if (answer.ok) return told;
      throw Object.assign(new JobsvcError({ ...told, status: answer.status }), {
        retryMs: Number(answer.headers.get("Retry-After")) * 1000,
      });
    }
  }

  /**
   * A job for *request*: made, or the one that does the same work. Kept until it is answered, through a reload too.
   *
   * @param {object} request As `POST /api/jobs` takes it.
   * @param {{signal?: AbortSignal}} [options]
   */
  async function submit(request, { signal } = {}) {
    const text = JSON.stringify(request);
    return send(begin(`${baseUrl} ${await whose()}`, text), signal);
  }

  /**
   * @param {import("./pending.js").Pending & {over?: boolean}} one
   * @param {AbortSignal} [signal]
   */
  async function send(one, signal) {
    for (let tries = 1; ; tries += 1) {
      try {
        if (one.over || (tries > 1 && one.whose !== `${baseUrl} ${await whose()}`)) throw elsewhere();
        const told = await call("/api/jobs", {
          method: "POST",
          body: JSON.parse(one.request),
          headers: { "Idempotency-Key": one.key },
          signal,
        });
        answered(one);
        return handle(told);
      } catch (error) {
        // What was refused for good is not worth keeping, nor what is not wanted any more; what nobody answered may have happened.
        if (!passing(error) || signal?.aborted) {
          answered(one);
          throw error;
        }
        if (tries === TRIES) {
          failed(one);
          throw error;
        }
        await pause(/** @type {any} */ (error).retryMs || longer(tries), signal);
      }
    }
  }

  /** @param {any} told */
  function handle({ job, deduplicated, dedup_reason, input_differs }) {
    /** @type {Promise<Job> | null} */
    let ending = null;
    return {
      id: /** @type {string} */ (job.id),
      job: /** @type {Job} */ (Object.freeze(job)),
      deduplicated: /** @type {boolean} */ (deduplicated),
      dedupReason: /** @type {string | null} */ (dedup_reason ?? null),
      inputDiffers: Boolean(input_differs),
      /** The job once it has ended, however it did. */
      get done() {
        return (ending ??= job.active ? done(job.id) : Promise.resolve(job));
      },
      cancel: (/** @type {{force?: boolean, reason?: string}} */ how) => cancel(job.id, how),
    };
  }

  /**
   * @param {string} id
   * @param {{force?: boolean, reason?: string}} [how]
   */
  const cancel = async (id, how = {}) => (await call(`/api/jobs/${id}/cancel`, { method: "POST", body: how })).job;

  /** @param {string} id @returns {Promise<Job>} */
  const read = async (id) => (await call(`/api/jobs/${id}`)).job;

  /**
   * *hear* is told whenever the active jobs or the stream's status have changed, until the function given back is called.
   *
   * @param {(batch: import("./jobs.js").Batch) => void} hear
   */
  const subscribe = (hear) => listen(hear, () => {});

  /**
   * @param {Subscription["hear"]} hear
   * @param {Subscription["fail"]} fail The client was closed.
   */
  function listen(hear, fail) {
    /** @type {Subscription} */
    const one = { hear, fail, leave: () => {}, over: closed };
    if (closed) Promise.resolve(over()).then(fail);
    else {
      subscriptions.add(one);
      attach(one);
    }
    return () => {
      one.over = true;
      subscriptions.delete(one);
      one.leave();
    };
  }

  /**
   * *hear* is given the job, as it stands and after each change, its end included; then no more.
   *
   * @param {string} id
   * @param {(job: Job) => void} hear
   * @param {(error: unknown) => void} [fail] There is no such job, it is another's, or the client was closed.
   */
  function watch(id, hear, fail = () => {}) {
    let version = 0;
    let reading = false;
    let ended = false;
    const stop = listen(({ all, changed }) => {
      changed.filter((job) => job.id === id).forEach(take);
      if (ended || !view?.ready) return;
      const known = view.jobs.byId.get(id);
      if (known) take(known);
      else if ((all || !version) && !reading) look();
    }, fail);
    const end = () => {
      ended = true;
      stop();
    };

    /** @param {Job} job */
    function take(job) {
      if (ended || job.version <= version) return;
      version = job.version;
      if (!job.active) end();
      hear(job);
    }

    /** Not on the list: it ended while nobody looked, or is not ours. It is read once, and the stream does the rest. */
    async function look() {
      reading = true;
      for (let tries = 1; !ended; tries += 1) {
        try {
          take(await read(id));
          break;
        } catch (error) {
          if (!passing(error)) {
            end();
            fail(error);
          } else await pause(longer(tries));
        }
      }
      reading = false;
    }

    return end;
  }

  /**
   * The job once it has ended, told by the stream.
   *
   * @param {string} id
   * @returns {Promise<Job>}
   */
  const done = (id) => new Promise((resolve, reject) => watch(id, (job) => job.active || resolve(job), reject));

  // What a reload cut off in the middle of being asked for is asked for again, under the same key, by the same.
  whose().then(
    (name) => left(`${baseUrl} ${name}`).forEach((one) => send(one).catch(() => {})),
    () => {},
  );

  const self = { sees: () => view, move, token };
  clients.add(self);

  return {
    submit,
    watch,
    done,
    cancel,
    read,
    subscribe,
    /** The active jobs, oldest first: the same array until something changes. */
    active: () => view?.jobs.list ?? NONE,
    /** One of them. @param {string} id */
    job: (id) => view?.jobs.byId.get(id),
    /** @returns {Status} */
    status: () => (closed ? CLOSED : (view?.status ?? CONNECTING)),
    /** True once the active jobs are known. */
    ready: () => view?.ready ?? false,
    /** Somebody else is signed in: everything is asked anew, and nothing of what was still being asked for is. */
    async signedIn() {
      const before = await open();
      drop(before.whose);
      const now = viewOf(baseUrl, options, { whose: await whose(), token, ask });
      if (now === before) before.restart();
      else for (const one of clients) if (one.sees() === before) one.move();
    },
    /** Nothing is heard any more; the stream closes with its last client. */
    close() {
      closed = true;
      clients.delete(self);
      for (const one of [...subscriptions]) {
        subscriptions.delete(one);
        one.over = true;
        one.leave();
        one.fail(over());
      }
    },
    call,
  };
}

/** @type {readonly Job[]} */
const NONE = Object.freeze([]);
/** @type {Status} */
const CONNECTING = { state: "connecting" };
/** @type {Status} */
const CLOSED = { state: "closed" };

/**
 * @param {string} baseUrl
 * @param {Options} options
 * @param {{whose: string, token: ((again: boolean) => Promise<string | null>) | null, ask: typeof fetch}} asking
 */
function viewOf(baseUrl, { principal, share = true, transport = "auto" }, { whose, token, ask }) {
  const name = `jobsvc ${PROTOCOL} ${baseUrl} ${whose} ${transport}`;
  const known = views.get(name);
  if (known) return known;
  /** @returns {Looker[]} */
  const lookers = () => [...clients].filter((one) => one.sees() === made);
  // A stream is one principal's: a token that has become another's is for another view. The newest client knows it best;
  // the one that was first may be closed.
  const own =
    token &&
    (async (/** @type {boolean} */ again) => {
      const given = await (lookers().at(-1)?.token ?? token)(again);
      if (principal !== undefined || bearerOf(given) === whose) return given;
      for (const one of lookers()) one.move();
      throw elsewhere();
    });
  const url = new URL("./worker.js", import.meta.url);
  const shared = share && typeof SharedWorker !== "undefined" && url.origin === globalThis.location?.origin;
  const inTab = () => new Hub({ baseUrl, transport, fetch: ask, token: own ?? (async () => null) });
  const start = () => new SharedWorker(url, { name, type: "module" });
  const hub = shared ? new RemoteHub(start, { baseUrl: absolute(baseUrl), transport, token: own }, inTab) : inTab();
  /** @type {View} */
  const made = new View(hub, `${baseUrl} ${whose}`);
  views.set(name, made);
  return made;
}

/** Tabs whose workers speak otherwise, as after an upgrade, start another. */
const PROTOCOL = 2;

/** @param {string} baseUrl */
const absolute = (baseUrl) => (baseUrl.includes("://") ? baseUrl : location.origin + baseUrl);

const elsewhere = () => new JobsvcError({ status: 401, code: "signed-in", title: "somebody else is signed in" });
const over = () => new JobsvcError({ status: 0, code: "closed", title: "the client was closed" });

/** Nobody answered, or the service could not: it may be otherwise later. @param {any} error */
const passing = ({ status }) => status === undefined || status === 429 || status >= 500;

/** How long to wait before another try. @param {number} tries */
const longer = (tries) => Math.min(30_000, 250 * 2 ** tries) * Math.random();

/**
 * @param {number} ms
 * @param {AbortSignal} [signal] Ends it.
 */
const pause = (ms, signal) =>
  new Promise((/** @type {(_: void) => void} */ resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Whose a token is, without believing it: all that it says but when it was made and for how long; only to keep apart what
 * must not be shared.
 *
 * @param {string | null} token
 */
function bearerOf(token) {
  try {
    const { exp, iat, nbf, jti, ...claims } = JSON.parse(atob((token ?? "").split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
    return JSON.stringify(claims, Object.keys(claims).sort());
  } catch {
    return token ?? "";
  }
}
