/**
 * Submits that nobody has answered yet, each under the idempotency key that makes a repetition harmless.
 *
 * They outlive a reload, in sessionStorage where there is one and it has room. Whose they are is kept with them: what one
 * asked for is never asked for in the name of another. Two submits of one page are two, though they say the same.
 */

const PLACE = "jobsvc.pending.";
/** The service knows keys for a day; what is much older than a reload takes was not cut off by one. */
const KEPT_MS = 3_600_000;

/**
 * @typedef {object} Pending
 * @property {string} key
 * @property {string} whose
 * @property {string} request
 * @property {number} at
 * @property {boolean} [failed] Whoever asked was told that it failed: it is repeated only if they ask again.
 */

/** @type {Map<string, Pending & {busy?: boolean, left?: boolean, over?: boolean}>} */
const unanswered = new Map();
let loaded = false;

/** What the page before a reload left is known. */
function load() {
  if (loaded) return;
  loaded = true;
  const store = storage();
  for (const place of Object.keys(store ?? {}).filter((one) => one.startsWith(PLACE))) {
    try {
      const one = JSON.parse(store?.getItem(place) ?? "");
      if (Date.now() - one.at < KEPT_MS) unanswered.set(one.key, { ...one, left: !one.failed });
      else store?.removeItem(place);
    } catch {
      store?.removeItem(place);
    }
  }
}

/**
 * *request* under a key of its own, or under that of the same one that was cut off or that failed.
 *
 * @param {string} whose
 * @param {string} request
 */
export function begin(whose, request) {
  load();
  const before = [...unanswered.values()].find((one) => !one.busy && one.whose === whose && one.request === request);
  const one = before ?? { key: random(), whose, request, at: Date.now() };
  one.busy = true;
  one.failed = false;
  unanswered.set(one.key, one);
  write(one);
  return one;
}

/** What the page before a reload was asking for in the name of *whose*; each is given once. @param {string} whose */
export function left(whose) {
  load();
  const found = [...unanswered.values()].filter((one) => one.left && one.whose === whose);
  for (const one of found) one.left = false;
  return found;
}

/** It was answered. @param {Pending} one */
export function answered(one) {
  unanswered.delete(one.key);
  storage()?.removeItem(PLACE + one.key);
}

/** Nobody answered, and whoever asked was told so. @param {Pending & {busy?: boolean}} one */
export function failed(one) {
  one.busy = false;
  one.failed = true;
  write(one);
}

/** Somebody else is signed in: nothing of *whose* is asked for any more. @param {string} whose */
export function drop(whose) {
  load();
  for (const one of unanswered.values()) {
    if (one.whose !== whose) continue;
    one.over = true;
    answered(one);
  }
}

/** @param {Pending} one */
function write({ key, whose, request, at, failed }) {
  try {
    storage()?.setItem(PLACE + key, JSON.stringify({ key, whose, request, at, failed }));
  } catch {
    // Full: it is kept for as long as this page lives.
  }
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
