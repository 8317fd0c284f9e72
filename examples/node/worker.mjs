/**
 * A worker in plain Node 20: claims jobs one at a time, does them, and tells the service how that goes.
 *
 * What lives here: what every worker needs around its work, as docs/workers.md has it. The work itself is `work` below;
 * put your own in its place. Nothing here decides whether a report counts: the service does, by the fence.
 *
 * Usage: JOBSVC_URL=http://127.0.0.1:8080 JOBSVC_TOKEN=... node worker.mjs KIND...
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const URL_BASE = process.env.JOBSVC_URL ?? "http://127.0.0.1:8080";
const TOKEN = process.env.JOBSVC_TOKEN;
const LEASE_S = Number(process.env.JOBSVC_LEASE_S ?? 30);
const NAME = process.env.JOBSVC_WORKER ?? `node-${process.pid}`;
const KINDS = process.argv.slice(2);

/** Aborted by SIGTERM and Ctrl-C: no more claims, and what is in hand is given back. */
const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stopping.abort(new Error("stopping")));

/**
 * The work: it resolves to the job's result, or throws.
 *
 * It stops soon after `signal` is aborted. What it does outside carries `${job.id}:${fence}` as its idempotency key.
 */
async function work(job, { fence, progress, signal }) {
  const steps = job.input.steps ?? 4;
  for (let step = 1; step <= steps; step++) {
    await sleep(job.input.step_ms ?? 250, undefined, { signal });
    progress((100 * step) / steps, `step ${step} of ${steps}`);
  }
  return { steps, effect_key: `${job.id}:${fence}` };
}

/** Answers that say: not now. Zero stands for no answer at all. */
const isPassing = (status) => status === 0 || status === 429 || status >= 500;

/** One request: its status, its body as JSON, and the pause that the service asks for. Never throws. */
async function post(path, body, signal) {
  try {
    const response = await fetch(URL_BASE + path, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    const text = await response.text();
    return { status: response.status, body: parsed(text), retryAfter: response.headers.get("retry-after") };
  } catch {
    return { status: 0, body: null, retryAfter: null };
  }
}

/** A proxy in between may answer with a page of its own. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The same request until there is an answer for good. Sent twice, a report is answered twice the same. */
async function postUntilAnswered(path, body, signal) {
  for (let turn = 0; ; turn++) {
    const answer = await post(path, body, signal);
    if (!isPassing(answer.status) || signal?.aborted) return answer;
    // Full jitter, so that many workers do not come back at once.
    const pauseMs = answer.retryAfter ? 1000 * answer.retryAfter : Math.random() * Math.min(250 * 2 ** turn, 10_000);
    await sleep(pauseMs, undefined, { signal }).catch(() => {});
  }
}

/** One job and the right to report on it; null if none came in time. */
async function claim() {
  // The same claim_id with each repetition: if only the answer was lost, the same job comes.
  const asked = { kinds: KINDS, max: 1, wait_s: 25, lease_s: LEASE_S, worker: NAME, claim_id: randomUUID() };
  let answer = await postUntilAnswered("/api/worker/claim", asked, stopping.signal);
  // A job may have been granted in the very moment of the stop: asked once more, it is known and given back.
  if (stopping.signal.aborted) answer = await post("/api/worker/claim", { ...asked, wait_s: 0 });
  if (answer.status === 200) return answer.body.jobs[0] ?? null;
  if (answer.status === 204 || stopping.signal.aborted) return null;
  throw new Error(`claim: ${answer.status} ${answer.body?.detail ?? ""}`);
}

/** The job is done, failed or given back, and the service has been told; or it is not ours any more. */
async function run({ job, lease_token, fence }) {
  const path = `/api/worker/jobs/${job.id}`;
  const unwanted = new AbortController();
  let lost = false;

  const read = ({ status, body }) => {
    lost ||= [403, 404, 409].includes(status);
    if (lost || body?.cancel_requested) unwanted.abort(new Error("not wanted"));
  };
  // At a third of the lease, so that two may be lost in a row. Nobody waits for one: the next comes anyway.
  const beating = setInterval(() => post(`${path}/heartbeat`, { lease_token }).then(read), (LEASE_S * 1000) / 3);
  // A late progress must not overtake the end, hence one after the other.
  let telling = Promise.resolve();
  const progress = (percent, message) => {
    telling = telling.then(() => post(`${path}/progress`, { lease_token, percent, message })).then(read);
  };

  const signal = AbortSignal.any([stopping.signal, unwanted.signal]);
  let report;
  try {
    report = ["complete", { result: await work(job, { fence, progress, signal }) }];
  } catch (error) {
    // Told to stop, a release is the honest report: the attempt is given back, or the cancel is done.
    report = signal.aborted ? ["release", {}] : ["fail", { error: { code: "failed", message: text(error) } }];
  } finally {
    clearInterval(beating);
  }
  await telling;
  // A result is reported even if the lease seems lost: it may still count, and else it is kept as late.
  if (lost && report[0] !== "complete") return console.log(`${job.id} lost`);
  const answer = await postUntilAnswered(`${path}/${report[0]}`, { lease_token, ...report[1] });
  console.log(`${job.id} ${answer.status === 200 ? answer.body.job.state : `${report[0]} refused: ${answer.body?.code}`}`);
}

/** What fits into an error's message. */
const text = (error) => String(error?.message ?? error).slice(0, 1000);

if (!TOKEN || KINDS.length === 0) {
  console.error("usage: JOBSVC_URL=... JOBSVC_TOKEN=... node worker.mjs KIND...");
  process.exit(2);
}
while (!stopping.signal.aborted) {
  const grant = await claim();
  if (grant) await run(grant);
}
