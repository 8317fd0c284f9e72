/**
 * Which jobs are looked at, out of the address: words that must all be there, and fields that must be so.
 *
 * Pure: jobs and a place come in, and jobs go out. How they are shown, and in which order, is active.js's.
 */

import { nameOf, ownerKind } from "./words.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

export const FIELDS = /** @type {const} */ (["state", "kind", "owner", "worker"]);

/** @param {Job} job @param {typeof FIELDS[number]} field @returns {string} */
const valueOf = (job, field) => (field === "owner" ? ownerKind(job.owner) : (job[field] ?? ""));

/**
 * @param {readonly Job[]} jobs
 * @param {Record<string, string>} place
 */
export function filtered(jobs, place) {
  const asked = FIELDS.filter((field) => place[field]);
  const words = (place.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  if (!asked.length && !words.length) return [...jobs];
  return jobs.filter((job) => {
    if (asked.some((field) => valueOf(job, field) !== place[field])) return false;
    const text = words.length ? `${nameOf(job)} ${job.id} ${job.key} ${job.owner} ${job.worker}`.toLowerCase() : "";
    return words.every((word) => text.includes(word));
  });
}

/** What there is to choose from, with how many of each. @param {readonly Job[]} jobs */
export function choices(jobs) {
  const counts = Object.fromEntries(FIELDS.map((field) => [field, new Map()]));
  for (const job of jobs) {
    for (const field of FIELDS) {
      const value = valueOf(job, field);
      if (value) counts[field].set(value, (counts[field].get(value) ?? 0) + 1);
    }
  }
  return counts;
}
