/**
 * How things are said: ages, moments, names.
 *
 * Text only: what anybody may submit must never become markup or a script.
 */

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

const UNITS = /** @type {const} */ ([
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
]);

/** A length of time in its two largest units. @param {number} seconds */
export function span(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, name] of UNITS) {
    if (rest >= unit && parts.length < 2) {
      parts.push(`${Math.floor(rest / unit)} ${name}`);
      rest %= unit;
    } else if (parts.length) break;
  }
  return parts.join(" ") || "0 s";
}

/** @param {string} moment */
export const age = (moment) => span((Date.now() - Date.parse(moment)) / 1000);

/** @param {string | null} moment */
export const clock = (moment) =>
  moment ? new Date(moment).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium", hourCycle: "h23" }) : "";

/** *text* with each moment in it as a clock shows it. @param {string} text */
export const withClocks = (text) => text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, clock);

/** *text* without what nobody reads at a glance: most of a word that is none, and what is far from the beginning. @param {string} text */
export function brief(text) {
  const short = text.replace(/\S{120,}/g, (word) => `${word.slice(0, 80)}…`);
  return short.length > 600 ? `${short.slice(0, 600)}…` : short;
}

/** @param {Job} job */
export const nameOf = (job) => job.title ?? job.url ?? job.key ?? job.id;

/** @param {string} owner */
export const ownerKind = (owner) => owner.split(":")[0];

/** The address if it leads to the web, else null. @param {string | null} text */
export function webAddress(text) {
  if (!text || !URL.canParse(text)) return null;
  const { protocol, href } = new URL(text);
  return protocol === "https:" || protocol === "http:" ? href : null;
}

/** @param {unknown} value */
export const pretty = (value) => JSON.stringify(value, null, 2);
