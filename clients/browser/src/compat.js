/**
 * For moving over one call at a time: the functions of a front end that polled, each over the stream.
 *
 * They keep their names and their promises, and ask the service nothing while they wait.
 */

/** @typedef {ReturnType<import("./jobsvc.js").createClient>} Client */
/** @typedef {import("./jobs.js").Job} Job */

/** @param {Client} client */
export function oldStyle(client) {
  /** @type {Map<string, Promise<Job>>} */
  const awaited = new Map();

  return {
    /**
     * The active job for *url*, if there is one: one question to the service, which knows every spelling of it.
     *
     * @param {string} url
     * @param {string} [kind]
     * @returns {Promise<Job | null>}
     */
    async getActiveJobForUrl(url, kind) {
      const query = new URLSearchParams({ url, ...(kind && { kind }) });
      return (await client.call(`/api/jobs/active?${query}`)).jobs[0] ?? null;
    },

    /**
     * The job once it has ended; rejects if it did not complete, as its poller did.
     *
     * @param {string} id
     * @param {(job: Job) => void} [onProgress]
     * @returns {Promise<Job>}
     */
    pollJobUntilComplete(id, onProgress = () => {}) {
      const stop = client.watch(id, onProgress, () => {});
      const ending = awaited.get(id) ?? client.done(id).finally(() => awaited.delete(id));
      awaited.set(id, ending);
      return ending.finally(stop).then((job) => {
        if (job.state === "completed") return job;
        throw Object.assign(new Error(job.error?.message ?? `the job was ${job.state}`), { job });
      });
    },

    /** True while somebody in this page waits for the job. @param {string} id */
    isJobBeingPolled: (id) => awaited.has(id),

    /**
     * Nothing is left to be cleaned up: an ended job has left the list by itself.
     *
     * @param {string} id
     * @returns {Promise<{success: boolean, removed: boolean, reason: string}>}
     */
    cleanupCompletedJob: (id) => client.call(`/api/jobs/cleanup/${id}`, { method: "POST", body: {} }),
  };
}
