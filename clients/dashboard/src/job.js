/**
 * One job: as it stands, what happened to it, why, and what it asked for.
 *
 * Here is when something is read, and where it stands on the page. How it is asked for is reading.js's; how a life is drawn
 * is lifeline.js's; what an operator does to it is acts.js's.
 */

import { html, nothing } from "lit";
import { openActs } from "./acts.js";
import { Base } from "./base.js";
import { explanation } from "./explanation.js";
import "./lifeline.js";
import { addressOf, follow } from "./place.js";
import { explained, forTheSame, since, whole } from "./reading.js";
import { client, role } from "./service.js";
import { loading, trouble, whenBack } from "./states.js";
import { brief, clock, nameOf, pretty, span, webAddress } from "./words.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */
/** @typedef {import("./lanes.js").Happened} Happened */
/** @typedef {import("./reading.js").Sentence} Sentence */

const ROWS = 200;

const SHOWN = /** @type {const} */ ([
  ["id", "Id"],
  ["kind", "Kind"],
  ["owner", "Owner"],
  ["key", "Key"],
  ["priority", "Priority"],
  ["worker", "Worker"],
  ["lost_leases", "Leases lost"],
  ["reason", "Reason"],
]);
const MOMENTS = /** @type {const} */ ([
  ["created_at", "Made"],
  ["run_at", "To run at"],
  ["started_at", "Attempt began"],
  ["lease_expires_at", "Lease until"],
  ["deadline", "Deadline"],
  ["finished_at", "Ended"],
]);
const RELATED = /** @type {const} */ ([
  ["retry_of", "Retry of"],
  ["follows", "Follows"],
  ["followed_by", "Followed by"],
  ["superseded_by", "Superseded by"],
]);

class JobPage extends Base {
  static properties = { id: { attribute: false } };

  constructor() {
    super();
    this.id = "";
    /** @type {Job | null} */
    this.job = null;
    /** @type {Happened[]} */
    this.events = [];
    /** @type {Sentence[]} */
    this.sentences = [];
    /** @type {unknown} Why it could not be read. */
    this.error = null;
    /** @type {unknown} Why its explanation could not be. */
    this.unexplained = null;
    /** @type {Set<string>} The jobs that retry it, or did. */
    this.retries = new Set();
    /** What is read for a job ends when another is looked at. */
    this.visit = new AbortController();
    /** @type {{told: Job | null} | null} What there is to read that was not when the reading began. */
    this.next = null;
    this.reading = false;
    /** How much of what happened is shown, the newest. */
    this.rows = ROWS;
  }

  connectedCallback() {
    super.connectedCallback();
    this.leave = whenBack(() => (this.error || this.unexplained) && this.changed());
    this.forget = client.subscribe(({ all, changed }) => this.note([...(all ?? []), ...changed]));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.visit.abort();
    this.end?.();
    this.leave?.();
    this.forget?.();
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if (!changed.has("id")) return;
    this.visit.abort();
    this.end?.();
    this.visit = new AbortController();
    this.reading = false;
    this.retries = new Set();
    this.job = null;
    this.events = [];
    this.sentences = [];
    this.error = null;
    this.unexplained = null;
    this.rows = ROWS;
    const { signal } = this.visit;
    // At once, and not only when the stream is there; of what the stream then tells, what is known is not read again.
    this.changed();
    this.end = client.watch(
      this.id,
      (job) => this.changed(job),
      (error) => this.fail(error, signal),
    );
    this.note(client.active());
  }

  /** Of *jobs*, those that retry this one are linked to. @param {readonly Job[]} jobs */
  note(jobs) {
    const retries = jobs.filter((job) => job.retry_of === this.id && !this.retries.has(job.id));
    if (!retries.length) return;
    for (const { id } of retries) this.retries.add(id);
    this.requestUpdate();
  }

  /**
   * What is changed while it is being read is read after that, once: no reading of a job overtakes another, and none
   * waits for that of a job that was looked at before.
   *
   * @param {Job | null} [told] As the stream told of it.
   */
  async changed(told = null) {
    this.next = { told };
    if (this.reading) return;
    this.reading = true;
    const { signal } = this.visit;
    while (!signal.aborted && this.next) {
      const { next } = this;
      this.next = null;
      await this.read(next.told, signal);
    }
    if (!signal.aborted) this.reading = false;
  }

  /**
   * Only what is not known is asked for: the events since the last, and why it is so if they are more than progress.
   *
   * @param {Job | null} told
   * @param {AbortSignal} signal
   */
  async read(told, signal) {
    const { id, job: known, events } = this;
    if (told && known && told.version <= known.version) return;
    try {
      const news = since(id, events.at(-1)?.position, signal);
      const [job, later, why] = await Promise.all([
        whole(id, { told, known, signal }),
        news,
        this.why(news, signal),
      ]);
      if (signal.aborted) return;
      Object.assign(this, { job, events: [...events, ...later], ...why, error: null });
      this.requestUpdate();
      if (!job.active) this.note(await forTheSame(job));
    } catch (error) {
      this.fail(error, signal);
    }
  }

  /**
   * Why it is as it is, asked if there is an answer to miss or *news* are more than progress; else, and where there is no
   * answer, what was said before stands.
   *
   * @param {Promise<Happened[]>} news
   * @param {AbortSignal} signal
   */
  async why(news, signal) {
    const { id, job, unexplained } = this;
    try {
      if (job && !unexplained && (await news).every(({ type }) => type === "job.progressed")) return {};
      return { sentences: await explained(id, signal), unexplained: null };
    } catch (error) {
      return { unexplained: error };
    }
  }

  /**
   * @param {unknown} error
   * @param {AbortSignal} signal
   */
  fail(error, signal) {
    if (signal.aborted) return;
    this.error = error;
    this.requestUpdate();
  }

  render() {
    const { job } = this;
    const back = html`<p><a href=${addressOf({ job: null })} @click=${follow}>All active jobs</a></p>`;
    const again = () => this.changed();
    if (!job) return html`${back} ${this.error ? trouble("This job", this.error, again) : loading()}`;
    const address = webAddress(job.url);
    return html`
      <article class="job-page">
        ${back}
        <header>
          <h1>${address ? html`<a href=${address} target="_blank" rel="noopener noreferrer nofollow">${brief(nameOf(job))}</a>` : brief(nameOf(job))}</h1>
          <span class="state" data-state=${job.state}>${job.state}</span>
          ${this.acts(job)}
        </header>
        ${this.error ? trouble("What came after this", this.error, again) : nothing}
        ${job.error ? html`<p role="alert"><strong>${job.error.code}</strong> ${job.error.message}</p>` : nothing}
        ${job.progress
          ? html`<p>
              <progress max="100" value=${job.progress.percent ?? nothing} aria-label="Progress"></progress>
              ${job.progress.percent == null ? "" : `${job.progress.percent} %`} ${brief(job.progress.message ?? "")}
            </p>`
          : nothing}
        <section class="life" aria-labelledby="life">
          <h2 id="life">Life</h2>
          <life-line .events=${this.events} .active=${job.active}></life-line>
        </section>
        <div class="beside">
          <div class="told">
            ${explanation(this.sentences, this.unexplained ? trouble("Why it is so", this.unexplained, again) : nothing)}
            <section aria-labelledby="happened">
              <h2 id="happened">What happened</h2>
              ${this.timeline(this.events)}
            </section>
          </div>
          <section aria-labelledby="what">
            <h2 id="what">What</h2>
            ${this.facts(job)} ${["input", "result", "metadata"].map((name) => this.folded(name, job[name]))}
          </section>
        </div>
      </article>
    `;
  }

  /** @param {Job} job */
  acts(job) {
    if (role() !== "operator") return nothing;
    const verbs = /** @type {import("./acts.js").Verb[]} */ (job.active ? ["cancel", "cleanup"] : ["retry"]);
    return html`<button @click=${() => openActs([job], verbs)}>${job.active ? "Cancel or clean up" : "Retry"}</button>`;
  }

  /** @param {Job} job */
  facts(job) {
    return html`
      <dl>
        <dt>Attempt</dt>
        <dd>${job.attempt} of ${job.max_attempts}</dd>
        ${SHOWN.map(([field, name]) => (job[field] == null || job[field] === "" ? nothing : html`<dt>${name}</dt><dd>${fact(String(job[field]))}</dd>`))}
        ${MOMENTS.map(([field, name]) =>
          job[field] ? html`<dt>${name}</dt><dd><time datetime=${job[field]}>${clock(job[field])}</time></dd>` : nothing,
        )}
        ${RELATED.map(([field, name]) =>
          job[field]
            ? html`<dt>${name}</dt><dd>${linked(job[field])}</dd>`
            : nothing,
        )}
        ${this.retries.size ? html`<dt>Retried as</dt>${[...this.retries].map((id) => html`<dd>${linked(id)}</dd>`)}` : nothing}
      </dl>
    `;
  }

  /** Each event at its moment, with the time that passed before it; of progress that nothing interrupted the last. @param {Happened[]} events */
  timeline(events) {
    const rows = runs(events);
    const first = Math.max(0, rows.length - this.rows);
    return html`
      ${first ? html`<button @click=${this.showBefore}>Show what was before (${first})</button>` : nothing}
      <ol class="timeline">
        ${rows.slice(first).map(({ event, count }, place) => {
          const before = rows[first + place - 1]?.event;
          const gapS = before ? (Date.parse(event.at) - Date.parse(before.at)) / 1000 : 0;
          return html`
            <li data-type=${event.type}>
              ${gapS >= 1 ? html`<span class="gap">${span(gapS)} later</span>` : nothing}
              <time datetime=${event.at}>${clock(event.at)}</time>
              <strong>${event.type.replace("job.", "").replaceAll("_", " ")}</strong>
              <span>${count > 1 ? `${count} times, at last ` : ""}${brief(this.said(event))}</span>
              <small>${event.actor ? `${event.actor}, ` : ""}position ${event.position}</small>
            </li>
          `;
        })}
      </ol>
    `;
  }

  showBefore() {
    this.rows += 5 * ROWS;
    this.requestUpdate();
  }

  /** @param {Happened} event */
  said({ data }) {
    const parts = [
      data.attempt && `attempt ${data.attempt}`,
      data.worker,
      data.lease_s && `lease of ${data.lease_s} s`,
      data.percent != null && `${data.percent} %`,
      data.message,
      data.error?.message,
      data.reason,
      data.due_at && `next at ${clock(data.due_at)}`,
      data.grace_until && `until ${clock(data.grace_until)}`,
      data.owner && data.previous_owner && `from ${data.previous_owner} to ${data.owner}`,
    ];
    return parts.filter(Boolean).join(", ");
  }

  /**
   * @param {string} name
   * @param {unknown} value
   */
  folded(name, value) {
    if (value == null || pretty(value) === "{}") return nothing;
    return html`<details>
      <summary>${name[0].toUpperCase() + name.slice(1)}</summary>
      <pre tabindex="0">${pretty(value)}</pre>
    </details>`;
  }
}

/** What is too long for a glance is there whole for who asks. @param {string} text */
const fact = (text) => (brief(text) === text ? text : html`<details><summary>${brief(text)}</summary>${text}</details>`);

/** The page of another job. @param {string} id */
const linked = (id) => html`<a href=${addressOf({ job: id })} @click=${follow}>${id}</a>`;

/** Each event, and of progress after progress the last one with how many there were. @param {Happened[]} events */
function runs(events) {
  /** @type {{event: Happened, count: number}[]} */
  const rows = [];
  for (const event of events) {
    const last = rows.at(-1);
    if (last && event.type === "job.progressed" && last.event.type === event.type) rows[rows.length - 1] = { event, count: last.count + 1 };
    else rows.push({ event, count: 1 });
  }
  return rows;
}

customElements.define("job-page", JobPage);
