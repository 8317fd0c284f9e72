/**
 * The client of jobsvc in a browser: jobs are asked for once, and then told by one stream; nothing is ever polled.
 *
 *     const client = createClient({ baseUrl: "" });
 *     const job = await client.submit({ kind: "x-post", url });
 *     await job.done;
 */

import { Hub } from "./hub.js";
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
const PENDING = "jobsvc.pending.";
/** @type {Map<string, View>} */
const views = new Map();

/** @param {Options} [options] */
export function createClient(options = {}) {
  const baseUrl = (options.baseUrl ?? "").replace(/\/+$/, "");
  const ask = options.fetch ?? ((...with_) => globalThis.fetch(...with_));
  const { getToken } = options;
  const token = getToken ? async (/** @type {boolean} */ again) => getToken({ again }) : null;
  /** @type {Promise<View> | null} */
  let opening = null;
  /** @type {View | null} */
  let view = null;
  /** @type {Set<() => void>} */
  const subscriptions = new Set();
  let closed = false;

  const open = () => (opening ??= viewOf(baseUrl, options, token, ask).then((made) => (view = made)));

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
      const told = answer.status === 204 ? null : await answer.json();
      if (answer.ok) return told;
      throw Object.assign(new JobsvcError({ ...told, status: answer.status }), {
        retryMs: Number(answer.headers.get("Retry-After")) * 1000,
      });
    }
  }

  /**
   * A job for *request*: made, or the one that does the same work. Kept through a reload: the same request is the same job.
   *
   * @param {object} request As `POST /api/jobs` takes it.
   * @param {{signal?: AbortSignal}} [options]
   */
  async function submit(request, { signal } = {}) {
    const kept = keep(JSON.stringify(request));
    for (let tries = 1; ; tries += 1) {
      try {
        const told = await call("/api/jobs", {
          method: "POST",
          body: request,
          headers: { "Idempotency-Key": kept.key },
          signal,
        });
        kept.forget();
        return handle(told);
      } catch (error) {
        const { status, retryMs } = /** @type {any} */ (error);
        // What was refused for good is not worth keeping; what nobody answered may have happened.
        const passing = status === undefined || status === 429 || status >= 500;
        if (!passing) kept.forget();
        if (!passing || signal?.aborted || tries === TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, retryMs || 250 * 2 ** tries * Math.random()));
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
  function subscribe(hear) {
    let over = false;
    let leave = () => {};
    const end = () => {
      over = true;
      subscriptions.delete(end);
      leave();
    };
    subscriptions.add(end);
    open().then((made) => {
      if (over || closed) return;
      leave = made.subscribe(hear);
      if (made.ready) hear({ all: null, changed: [] });
    });
    return end;
  }

  /**
   * *hear* is given the job, as it stands and after each change, its end included; then no more.
   *
   * @param {string} id
   * @param {(job: Job) => void} hear
   * @param {(error: unknown) => void} [fail] There is no such job, or it is another's.
   */
  function watch(id, hear, fail = () => {}) {
    let version = 0;
    let reading = false;
    /** @param {Job} job */
    const take = (job) => {
      if (job.version <= version) return;
      version = job.version;
      hear(job);
      if (!job.active) end();
    };
    const end = subscribe(async ({ all, changed }) => {
      changed.filter((job) => job.id === id).forEach(take);
      if (!view?.ready) return;
      const known = view.jobs.byId.get(id);
      if (known) take(known);
      else if ((all || !version) && !reading) {
        // Not on the list: it ended while nobody looked, or is not ours. It is read once, and the stream does the rest.
        reading = true;
        try {
          take(await read(id));
        } catch (error) {
          end();
          fail(error);
        }
        reading = false;
      }
    });
    return end;
  }

  /**
   * The job once it has ended, told by the stream.
   *
   * @param {string} id
   * @returns {Promise<Job>}
   */
  const done = (id) => new Promise((resolve, reject) => watch(id, (job) => job.active || resolve(job), reject));

  // What a reload cut off in the middle of being asked for is asked for again, under the same key.
  for (const { request } of pending()) submit(request).catch(() => {});

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
    /** Somebody else is signed in: everything is asked anew. */
    signedIn: () => open().then((made) => made.restart()),
    /** Nothing is heard any more; the stream closes with its last client. */
    close() {
      closed = true;
      for (const end of [...subscriptions]) end();
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
 * @param {((again: boolean) => Promise<string | null>) | null} token
 * @param {typeof fetch} ask
 */
async function viewOf(baseUrl, { principal, share = true, transport = "auto" }, token, ask) {
  const whose = principal ?? (token ? subject((await token(false)) ?? "") : "cookie");
  const name = `jobsvc ${baseUrl} ${whose} ${transport}`;
  const known = views.get(name);
  if (known) return known;
  const url = new URL("./worker.js", import.meta.url);
  const shared = share && typeof SharedWorker !== "undefined" && url.origin === globalThis.location?.origin;
  const hub = shared
    ? new RemoteHub(() => new SharedWorker(url, { name, type: "module" }), { baseUrl: absolute(baseUrl), transport, token })
    : new Hub({ baseUrl, transport, fetch: ask, token: token ?? (async () => null) });
  const made = new View(hub);
  views.set(name, made);
  return made;
}

/** @param {string} baseUrl */
const absolute = (baseUrl) => (baseUrl.includes("://") ? baseUrl : location.origin + baseUrl);

/** Whose a token is, without believing it: only to keep apart what must not be shared. @param {string} token */
function subject(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub ?? token;
  } catch {
    return token;
  }
}

/**
 * The key under which *request* is asked for, until it was acknowledged; the same after a reload.
 *
 * @param {string} request
 */
function keep(request) {
  const place = PENDING + request;
  const store = storage();
  const key = store?.getItem(place) ?? random();
  store?.setItem(place, key);
  return { key, forget: () => store?.removeItem(place) };
}

function pending() {
  const store = storage();
  const places = Object.keys(store ?? {}).filter((place) => place.startsWith(PENDING));
  return places.map((place) => ({ request: JSON.parse(place.slice(PENDING.length)) }));
}

function storage() {
  try {
    return globalThis.sessionStorage;
  } catch {
    return undefined;
  }
}

/** Without crypto.subtle or randomUUID, which plain http has not. */
function random() {
  const bytes = globalThis.crypto?.getRandomValues(new Uint8Array(16)) ?? Array.from({ length: 16 }, () => Math.random() * 256);
  return Array.from(bytes, (byte) => Math.floor(byte).toString(16).padStart(2, "0")).join("");
}
