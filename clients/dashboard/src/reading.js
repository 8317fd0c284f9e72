/**
 * What a job's page asks of the service: only what the stream does not tell, and of that only what is not known yet.
 *
 * Nothing is kept here and nothing is shown; what to do about a refusal is up to who asked.
 */

import { ask } from "./service.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */
/** @typedef {import("./lanes.js").Happened} Happened */
/** @typedef {{question: string, sentence: string, positions: number[]}} Sentence */

const PAGE = 500;
const RETRIES = 20;

/**
 * The job as it was *told*; what is too large for a stream is read, or kept from when it was.
 *
 * @param {string} id
 * @param {{told: Job | null, known: Job | null, signal: AbortSignal}} how
 * @returns {Promise<Job>}
 */
export async function whole(id, { told, known, signal }) {
  if (told && !told.omitted) return told;
  if (!told || !known || !told.active) return (await ask(`/api/jobs/${id}`, signal)).job;
  return { ...told, input: known.input, result: known.result };
}

/**
 * What happened after *position*, or all.
 *
 * @param {string} id
 * @param {number | undefined} position
 * @param {AbortSignal} signal
 */
export async function since(id, position, signal) {
  /** @type {Happened[]} */
  const events = [];
  for (let after = position; ; ) {
    const page = await ask(`/api/jobs/${id}/events?limit=${PAGE}${after ? `&after=${after}` : ""}`, signal);
    events.push(...page.events);
    if (!page.next) return events;
    after = page.next;
  }
}

/** Why it is as it is. @param {string} id @param {AbortSignal} signal @returns {Promise<Sentence[]>} */
export const explained = async (id, signal) => (await ask(`/api/jobs/${id}/explain`, signal)).sentences;

/**
 * The newest jobs for the same work, among them those that retry it; a job without a key is like no other.
 *
 * @param {Job} job
 * @returns {Promise<Job[]>}
 */
export async function forTheSame({ owner, kind, key }) {
  if (!key) return [];
  const query = new URLSearchParams({ owner, kind, key, limit: String(RETRIES) });
  return ask(`/api/jobs?${query}`).then(
    ({ jobs }) => jobs,
    () => [],
  );
}
