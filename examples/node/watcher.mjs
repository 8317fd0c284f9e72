/**
 * A watcher in plain Node 20: follows one job to its end, or everything that the token may see, over cuts and restarts.
 *
 * What lives here: reading server-sent events from a fetch, which unlike EventSource can send a bearer token, and going
 * on where it was. Prints a line an event: position, type, job, version, state, and how far it is.
 *
 * Usage: JOBSVC_URL=http://127.0.0.1:8080 JOBSVC_TOKEN=... node watcher.mjs [JOB_ID]
 */
import { setTimeout as sleep } from "node:timers/promises";

const URL_BASE = process.env.JOBSVC_URL ?? "http://127.0.0.1:8080";
const TOKEN = process.env.JOBSVC_TOKEN;
const JOB_ID = process.argv[2];
const PATH = JOB_ID ? `/api/jobs/${JOB_ID}/events` : "/api/stream";

/** The active jobs by id, as the stream tells them. */
const jobs = new Map();
/** The last `id:` that was dealt with. Sent as Last-Event-ID, it makes the next connection go on from there. */
let cursor = null;
let snapshot = [];
let heartbeatS = 15;
/** The pause that the service asked for, used once. */
let retryMs = null;
let turn = 0;

/** What a frame means. True if it is the last one of this connection. */
function take({ event, id, data, retry }) {
  if (retry !== null) retryMs = retry;
  switch (event) {
    case "hello":
      heartbeatS = data.heartbeat_s;
      snapshot = []; // Parts of a snapshot that was cut are not put together with those of another.
      break;
    case "reset": // The cursor cannot be served; a snapshot follows.
      cursor = null;
      console.log(`reset ${data.reason}`);
      break;
    case "snapshot":
      snapshot.push(...data.jobs);
      if (!data.more) begin();
      break;
    case "job":
      if (data.job.active) jobs.set(data.job.id, data.job);
      else jobs.delete(data.job.id);
      console.log(line(data.position, data.type, data.job));
      break;
    case "ready":
      turn = 0;
      console.log(`ready ${id}`);
      break;
    case "end":
      console.log(`end ${data.job.id} ${data.job.state} ${JSON.stringify(data.job.result)}`);
      break;
    case "bye": // Come back later: its retry says when.
      console.log(`bye ${data.reason}`);
      break;
  }
  // Only now: a frame that was not dealt with is sent again.
  if (id !== null) cursor = id;
  return event === "end" || event === "bye" ? event : null;
}

/** The map is what the snapshot says: what it does not name has ended in the meantime. */
function begin() {
  jobs.clear();
  for (const job of snapshot) {
    if (job.active) jobs.set(job.id, job);
    console.log(line(job.position, "snapshot", job));
  }
  snapshot = [];
}

const line = (position, type, job) =>
  [position, type, job.id, job.version, job.state, job.progress?.percent ?? "-", job.progress?.message ?? ""].join(" ");

/** One connection, until it ends, breaks or falls silent. Returns why, where the service said so. */
async function connect() {
  const silence = new AbortController();
  let alarm = null;
  const heard = () => {
    clearTimeout(alarm);
    alarm = setTimeout(() => silence.abort(), 3000 * heartbeatS);
  };
  heard();
  try {
    const headers = { accept: "text/event-stream", authorization: `Bearer ${TOKEN}` };
    if (cursor !== null) headers["last-event-id"] = cursor;
    const response = await fetch(URL_BASE + PATH, { headers, signal: silence.signal });
    if (response.status === 204) return "end"; // All was told before.
    if (response.status !== 200) return await refused(response);
    for await (const frame of frames(response.body, heard)) {
      const over = take(frame);
      if (over) return over;
    }
  } finally {
    clearTimeout(alarm);
  }
  return null;
}

/** Not now: nothing is wrong, and it is tried again. Not at all: an error. */
async function refused(response) {
  const problem = await response.json().catch(() => ({}));
  if (response.status !== 429 && response.status < 500) {
    console.error(`${response.status} ${problem.code ?? ""} ${problem.detail ?? ""}`);
    process.exit(1);
  }
  const after = Number(response.headers.get("retry-after"));
  if (after) retryMs = 1000 * after;
  return null;
}

/** The frames of a body, whole ones only, however it is cut into chunks. Lines end in LF; data is one line of JSON. */
async function* frames(body, heard) {
  const decoder = new TextDecoder();
  let received = "";
  for await (const chunk of body) {
    heard();
    received += decoder.decode(chunk, { stream: true });
    const blocks = received.split("\n\n");
    received = blocks.pop();
    for (const block of blocks) yield frame(block);
  }
}

function frame(block) {
  const fields = { event: null, id: null, retry: null, data: "null" };
  for (const text of block.split("\n")) {
    const colon = text.indexOf(":");
    fields[text.slice(0, colon)] = text.slice(colon + 1).replace(/^ /, "");
  }
  return { ...fields, data: JSON.parse(fields.data), retry: fields.retry === null ? null : Number(fields.retry) };
}

/** What was asked for, else growing pauses with full jitter, so that many watchers do not come back at once. */
function pauseMs() {
  const asked = retryMs;
  retryMs = null;
  return asked ?? Math.random() * Math.min(250 * 2 ** turn++, 10_000);
}

if (!TOKEN) {
  console.error("usage: JOBSVC_URL=... JOBSVC_TOKEN=... node watcher.mjs [JOB_ID]");
  process.exit(2);
}
for (;;) {
  const over = await connect().catch(() => null); // Cut, refused or silent: all the same, it goes on.
  if (over === "end") break;
  await sleep(pauseMs());
}
process.exit(0);
