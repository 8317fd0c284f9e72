/**
 * The client as hooks of React: one stream, however many components look at it.
 *
 * Nothing is opened while rendering; what a component is given is the same object until it changes.
 */

import { useCallback, useMemo, useRef, useState, useSyncExternalStore } from "react";

/** @typedef {ReturnType<import("./jobsvc.js").createClient>} Client */
/** @typedef {import("./jobs.js").Job} Job */

/** @type {readonly Job[]} */
const NONE = Object.freeze([]);
/** @type {import("./stream.js").Status} What a server renders, and the page that takes it over. */
const CONNECTING = Object.freeze({ state: "connecting" });

/**
 * The active jobs, oldest first.
 *
 * @param {Client} client
 * @returns {readonly Job[]}
 */
export function useActiveJobs(client) {
  return useSyncExternalStore(client.subscribe, client.active, () => NONE);
}

/**
 * The job as it stands, its end included; undefined until it is known.
 *
 * @param {Client} client
 * @param {string | null | undefined} id
 * @returns {Job | undefined}
 */
export function useJob(client, id) {
  const last = useRef(/** @type {Job | undefined} */ (undefined));
  const subscribe = useCallback(
    (/** @type {() => void} */ changed) => {
      last.current = undefined;
      if (!id) return () => {};
      return client.watch(id, (job) => {
        last.current = job;
        changed();
      });
    },
    [client, id],
  );
  const current = () => (last.current?.id === id ? last.current : id ? client.job(id) : undefined);
  return useSyncExternalStore(subscribe, current, () => undefined);
}

/**
 * How the stream is.
 *
 * @param {Client} client
 */
export function useStreamStatus(client) {
  return useSyncExternalStore(client.subscribe, client.status, () => CONNECTING);
}

/**
 * A function that submits, and what became of the last call of it: `{submit, job, error, pending}`.
 *
 * @param {Client} client
 */
export function useSubmit(client) {
  const [state, setState] = useState(
    /** @type {{id?: string, deduplicated?: boolean, error?: unknown, pending: boolean}} */ ({ pending: false }),
  );
  const calls = useRef(0);
  const submit = useCallback(
    async (/** @type {object} */ request) => {
      const call = (calls.current += 1);
      // What an earlier call comes to, later than this one, is not what became of the last.
      const say = (/** @type {typeof state} */ next) => call === calls.current && setState(next);
      setState({ pending: true });
      try {
        const handle = await client.submit(request);
        say({ id: handle.id, deduplicated: handle.deduplicated, pending: false });
        return handle;
      } catch (error) {
        say({ error, pending: false });
        return undefined;
      }
    },
    [client],
  );
  const job = useJob(client, state.id);
  return useMemo(() => ({ submit, job, ...state }), [submit, job, state]);
}
