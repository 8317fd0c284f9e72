/**
 * How a page says that it does not know something: not yet, or not now. Whatever is wrong comes with what to do about it.
 *
 * Each page says it in these words, and none in its own; nothing is asked for here, only whoever asked is told when to.
 */

import { html, nothing } from "lit";
import { client } from "./service.js";

/** @type {string | null} */
let since = null;
client.subscribe(() => {
  const { state } = client.status();
  // An attempt to come back is none yet: what is shown is still as it was when the first one failed.
  if (state === "live" || state === "degraded") since = null;
  else if (state === "offline") since ??= new Date().toISOString();
});

/** Since when the service is away; null while it is not. */
export const awaySince = () => since;

/** While the service is away nothing is loading: the shell says so, and that it goes on by itself. */
export const loading = () => (since ? nothing : html`<p class="empty" role="status">Loading.</p>`);

/**
 * Why something was refused, in the service's own words where it had any.
 *
 * @param {any} error
 */
export const why = (error) => (error.status ? sentence(error.message) : "The service does not answer.");

/**
 * *what* could not be read, and a button to have it read again.
 *
 * @param {string} what
 * @param {unknown} error
 * @param {() => void} again
 */
export const trouble = (what, error, again) => html`
  <div role="alert" class="trouble">
    <p>${what} could not be read. ${why(error)}</p>
    <button type="button" @click=${again}>Try again</button>
  </div>
`;

/** *back* is called when the service is there again after it was not, until the function given back is called. @param {() => void} back */
export function whenBack(back) {
  let away = false;
  return client.subscribe(() => {
    const { state } = client.status();
    if (state === "offline") away = true;
    else if (away && (state === "live" || state === "degraded")) {
      away = false;
      back();
    }
  });
}

/** @param {string} text */
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
