/**
 * The service as the dashboard knows it: who we are, the client with its one stream, and the few questions that it asks.
 *
 * Every request goes through here. What somebody may do is never decided here: the service does that.
 */

import { createClient } from "/client/v1/jobsvc.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

const PLACE = "jobsvc.dashboard.token";
const LINK_PATIENCE_MS = 10_000;

/**
 * What became of the link that one came by: it was `spent` before, or it `waits` for a service that can look at it.
 *
 * @type {"spent" | "waits" | null}
 */
export let link = null;

/**
 * The token of the link that `jobsvc serve` printed: its code stands in the fragment, and is good once. There it stays
 * until the service has said yes or no to it, so that loading the page again tries it again.
 */
async function redeemLink() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return;
  link = "waits";
  const patience = new AbortController();
  const over = setTimeout(() => patience.abort(), LINK_PATIENCE_MS);
  try {
    const answer = await fetch("/api/sessions/link", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
      signal: patience.signal,
    });
    if (answer.ok) keepToken((await answer.json()).token);
    else if (answer.status !== 401) return;
    link = answer.ok ? null : "spent";
    history.replaceState(null, "", location.pathname + location.search);
  } catch {
    // Nobody answered, or not in time: the link waits.
  } finally {
    clearTimeout(over);
  }
}

/** All tabs of the dashboard are one principal's: the token is kept for the browser, not for the tab. @param {string} token */
export function keepToken(token) {
  localStorage.setItem(PLACE, token.trim());
}

export const forgetToken = () => localStorage.removeItem(PLACE);
export const token = () => localStorage.getItem(PLACE);

/** What the token says of its bearer, to show no act that the service would refuse; it is the service that decides. */
export function role() {
  try {
    const claims = (token() ?? "").split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return /** @type {string} */ (JSON.parse(atob(claims)).role);
  } catch {
    return "";
  }
}

await redeemLink();
export const client = createClient({ getToken: token });

/**
 * @param {string} path
 * @param {AbortSignal} [signal] Nobody waits for the answer any more.
 */
export const ask = (path, signal) => client.call(path, { signal });

/**
 * @param {string} path
 * @param {object} body
 */
export const act = (path, body) => client.call(path, { method: "POST", body });
