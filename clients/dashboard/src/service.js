/**
 * The service as the dashboard knows it: who we are, the client with its one stream, and the few questions that it asks.
 */

import { createClient } from "/client/v1/jobsvc.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

const PLACE = "jobsvc.dashboard.token";

/** True if one came by a link that the service did not take. */
export let linkRefused = false;

/** The token of the link that `jobsvc serve` printed: its code stands in the fragment, and is good once. */
async function redeemLink() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const answer = await fetch("/api/sessions/link", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
    });
    if (answer.ok) keepToken((await answer.json()).token);
    else linkRefused = true;
  } catch {
    // Nobody answered: the page says how to sign in otherwise.
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
