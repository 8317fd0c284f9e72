/**
 * Where one is, as the address says: everything that is looked at can be sent to somebody as a link.
 *
 * Nobody else reads or writes the address, but for the code of a link that signs in, which is service.js's.
 */

/** @type {Set<() => void>} */
const listeners = new Set();

export const where = () => Object.fromEntries(new URLSearchParams(location.search));

/** @param {Record<string, string | null | undefined>} change */
export function addressOf(change) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) value ? query.set(name, value) : query.delete(name);
  return `${location.pathname}${query.size ? `?${query}` : ""}`;
}

/**
 * @param {Record<string, string | null | undefined>} change
 * @param {{replace?: boolean}} [how] Replaces the entry in the history, for what is typed letter by letter.
 */
export function go(change, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", addressOf(change));
  for (const listener of listeners) listener();
}

/** @param {() => void} listener */
export function onMove(listener) {
  listeners.add(listener);
  addEventListener("popstate", listener);
}

/** A link that moves within the page. @param {MouseEvent} event */
export function follow(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const link = /** @type {HTMLAnchorElement} */ (event.currentTarget);
  event.preventDefault();
  history.pushState(null, "", link.href);
  for (const listener of listeners) listener();
}
