/**
 * Charts: what came and went, how long it waited and ran, who works, how the streams stand, and what is wrong.
 *
 * Read when looked at, with the first event after a minute, and when asked to; between, the stream counts on. Nothing is
 * polled: while nothing happens nothing is asked.
 */

import { html, nothing } from "lit";
import { Base } from "./base.js";
import "./plot.js";
import { act, ask, client, role } from "./service.js";
import { loading, trouble, whenBack, why } from "./states.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

const WINDOW_S = 3_600;
const STEP_S = 60;
const WORKERS = 20;
const FLOWS = /** @type {const} */ ([
  ["job.created", "made", "--accent"],
  ["job.completed", "completed", "--good"],
  ["job.failed", "failed", "--bad"],
  ["job.cancelled", "cancelled", "--soft"],
  ["job.expired", "expired", "--busy"],
]);

class Charts extends Base {
  constructor() {
    super();
    /** @type {any} */
    this.stats = null;
    /** @type {any} */
    this.streams = null;
    /** @type {any[]} */
    this.projections = [];
    /** @type {any} */
    this.health = null;
    this.examining = false;
    /** @type {unknown} Why the doctor could not be asked. */
    this.unseen = null;
    /** @type {unknown} Why the charts could not be read. */
    this.error = null;
    this.asked = false;
    /** When it was last asked, and last answered, in milliseconds of the page's life: no clock is trusted but the service's. */
    this.askedAt = this.answeredAt = 0;
    /** @type {Set<string>} The jobs that have ended since it was answered. */
    this.ended = new Set();
    /** @type {Job[] | null} What was told while the charts are read; null while they are not. */
    this.told = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.end = client.subscribe(({ changed }) => {
      this.readOnce();
      this.count(changed);
    });
    this.leave = whenBack(() => this.read());
    this.readOnce();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.end?.();
    this.leave?.();
  }

  /** Once it is known whether there is a stream: it is one of those that are counted. */
  readOnce() {
    if (this.asked || client.status().state === "connecting") return;
    this.asked = true;
    this.read();
  }

  /** The newest reading counts, whichever is answered last. */
  async read() {
    this.askedAt = performance.now();
    /** @type {Job[]} */
    const told = [];
    this.told = told;
    this.error = null;
    this.requestUpdate();
    try {
      const [[stats, answeredAt], streams, { projections }] = await Promise.all([
        ask(`/api/stats?window_s=${WINDOW_S}&step_s=${STEP_S}`).then((stats) => [stats, performance.now()]),
        ask("/api/streams?limit=10"),
        ask("/api/projections"),
      ]);
      if (this.told !== told) return;
      Object.assign(this, { stats, answeredAt, streams, projections, ended: new Set() });
      this.add(told);
    } catch (error) {
      if (this.told !== told) return;
      this.error = error;
    }
    this.told = null;
    this.requestUpdate();
  }

  async examine() {
    Object.assign(this, { examining: true, unseen: null });
    this.requestUpdate();
    try {
      this.health = await act("/api/operator/doctor", {});
    } catch (error) {
      this.unseen = error;
    }
    this.examining = false;
    this.requestUpdate();
  }

  /**
   * What the stream tells is added to the step that is not over; how long jobs waited and ran it does not tell, so that
   * is read after a while.
   *
   * @param {Job[]} changed
   */
  count(changed) {
    if (changed.length && this.stats && performance.now() - this.askedAt >= STEP_S * 1_000) this.read();
    this.told?.push(...changed);
    this.add(changed);
    this.requestUpdate();
  }

  /** Of *jobs* those that were not among what was read. @param {Job[]} jobs */
  add(jobs) {
    const step = this.stats && newest(this.stats.steps, Date.parse(this.stats.until) + performance.now() - this.answeredAt);
    for (const job of step ? jobs : []) {
      const type = job.version === 1 ? "job.created" : this.endsNow(job) ? `job.${job.state}` : null;
      if (type && job.position > this.stats.position) step.events[type] = (step.events[type] ?? 0) + 1;
    }
  }

  /** True once for each job that has ended since: another owner, or a result that comes too late, is no other end. @param {Job} job */
  endsNow({ id, active, finished_at }) {
    if (active || finished_at < this.stats.until || this.ended.has(id)) return false;
    this.ended.add(id);
    return true;
  }

  render() {
    return html`
      <header class="heading">
        <h1>Charts</h1>
        <span>The last hour</span>
        <button @click=${this.read}>Read again</button>
      </header>
      ${this.error ? trouble("The charts", this.error, () => this.read()) : nothing}
      <div class="charts">
        ${this.stats ? this.flows(this.stats) : this.error ? nothing : loading()}
        ${client.ready() ? this.workers() : nothing} ${this.streams ? this.standing(this.streams) : nothing}
        ${this.projections.length ? this.views() : nothing} ${this.doctor(this.stats?.wrong ?? [])}
      </div>
    `;
  }

  /** @param {any} stats */
  flows({ steps }) {
    const times = steps.map((/** @type {any} */ { at }) => Date.parse(at) / 1000);
    /** @param {string} name @param {string} ink @param {(step: any) => number | null} of */
    const line = (name, ink, of) => ({ name, ink, values: steps.map(of) });
    const lengths = (/** @type {"waits" | "runs"} */ which) => [
      line("half within", "--accent", ({ [which]: { count, p50_s } }) => (count ? p50_s : null)),
      line("95 % within", "--busy", ({ [which]: { count, p95_s } }) => (count ? p95_s : null)),
    ];
    /** @type {[string, string, import("./plot.js").Line[]][]} */
    const plots = [
      ["Jobs a minute", "", FLOWS.map(([type, name, ink]) => line(name, ink, ({ events }) => events[type] ?? 0))],
      ["Duplicates avoided a minute", "", [line("avoided", "--accent", ({ avoided }) => avoided)]],
      ["Wait for a worker", " s", lengths("waits")],
      ["Time to the end", " s", lengths("runs")],
      ["Open streams", "", [line("open", "--accent", ({ levels }) => levels?.streams_max ?? null)]],
      [
        "Events behind the log",
        "",
        [
          line("projections", "--accent", ({ levels }) => levels?.projection_lag_max ?? null),
          line("streams", "--busy", ({ levels }) => levels?.stream_lag_max ?? null),
        ],
      ],
    ];
    return plots.map(
      ([name, unit, lines]) => html`<section>
        <h2>${name} ${unit ? html`<small>in seconds</small>` : nothing}</h2>
        <time-plot .name=${name} .unit=${unit} .times=${times} .lines=${lines}></time-plot>
      </section>`,
    );
  }

  /** Who works, out of the active jobs: live without a question. */
  workers() {
    /** @type {Map<string, number>} */
    const held = new Map();
    for (const { worker } of client.active()) if (worker) held.set(worker, (held.get(worker) ?? 0) + 1);
    const rows = [...held].sort((one, other) => other[1] - one[1]);
    return html`<section>
      <h2>Workers</h2>
      ${rows.length ? table(["Worker", "Holds"], rows.slice(0, WORKERS)) : html`<p class="empty">Nobody holds a job.</p>`}
      ${rows.length > WORKERS ? html`<p>and ${rows.length - WORKERS} more</p>` : nothing}
    </section>`;
  }

  /** @param {any} streams */
  standing({ open, by_state, by_transport, lag_max, resets, cuts, streams }) {
    return html`<section>
      <h2>Streams</h2>
      <p><span class="figure">${open}</span> open${[by_state, by_transport].map((counts) => html`<br /><small>${said(counts)}</small>`)}</p>
      <p>The furthest behind by ${lag_max} events. Cut for not reading: ${cuts}. Begun anew: ${said(resets) || "none"}.</p>
      ${table(
        ["Whose", "How", "State", "Behind"],
        streams.map((/** @type {any} */ one) => [one.principal, one.transport, one.state, one.lag]),
      )}
    </section>`;
  }

  views() {
    return html`<section>
      <h2>Views</h2>
      ${table(
        ["View", "Behind", ""],
        this.projections.map(({ name, lag, failure }) => [name, lag, failure ?? ""]),
      )}
    </section>`;
  }

  /** What is wrong, by the service's own rounds or by an examination. @param {string[]} found */
  doctor(found) {
    /** @type {{ok: boolean, says: string}[]} */
    const checks = this.health?.checks ?? [];
    const wrong = [...new Set([...found, ...checks.filter(({ ok }) => !ok).map(({ says }) => says)])];
    const mayExamine = role() === "operator";
    if (!mayExamine && !wrong.length) return nothing;
    return html`<section>
      <h2>Doctor</h2>
      ${mayExamine ? html`<button ?disabled=${this.examining} @click=${this.examine}>${this.examining ? "Examining" : "Examine"}</button>` : nothing}
      ${this.unseen ? html`<p role="alert">Nothing could be examined. ${why(this.unseen)} Examine again in a moment.</p>` : nothing}
      ${wrong.length ? html`<ul role="alert">${wrong.map((says) => html`<li>${says}</li>`)}</ul>` : nothing}
      ${this.health
        ? html`${wrong.length ? nothing : html`<p>Nothing is wrong.</p>`}
            <details>
              <summary>All that was looked at</summary>
              <ul>
                ${checks.map(({ says }) => html`<li>${says}</li>`)}
              </ul>
            </details>`
        : nothing}
    </section>`;
  }
}

/**
 * The step that *now* is in: a page that is left open goes on, and what is too old falls off.
 *
 * @param {any[]} steps
 * @param {number} now
 */
function newest(steps, now) {
  const none = { count: 0 };
  for (let last = steps.at(-1); last && now - Date.parse(last.at) >= STEP_S * 1_000; last = steps.at(-1)) {
    steps.push({ at: new Date(Date.parse(last.at) + STEP_S * 1_000).toISOString(), events: {}, avoided: 0, waits: none, runs: none, levels: null });
    steps.shift();
  }
  return steps.at(-1);
}

/** @param {Record<string, number>} counts */
const said = (counts) =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name.replace("_", " ")}`)
    .join(", ");

/**
 * @param {string[]} head
 * @param {unknown[][]} rows
 */
const table = (head, rows) => html`
  <table>
    <thead>
      <tr>
        ${head.map((name) => html`<th scope="col">${name}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}
    </tbody>
  </table>
`;

customElements.define("job-charts", Charts);
