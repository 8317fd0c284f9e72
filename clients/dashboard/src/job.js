/** One job: as it stands, what happened to it, why, and what it asked for. */

import { html, nothing } from "lit";
import { openActs } from "./acts.js";
import { Base } from "./base.js";
import { addressOf, follow } from "./place.js";
import { ask, client, role } from "./service.js";
import { loading, trouble, whenBack, why } from "./states.js";
import { clock, nameOf, pretty, span, webAddress } from "./words.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */
/** @typedef {{position: number, version: number, type: string, at: string, actor: string, data: Record<string, any>}} Happened */

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
    /** @type {{sentence: string, positions: number[]}[]} */
    this.sentences = [];
    /** @type {any} Why it could not be read. */
    this.error = null;
    this.stale = "";
    this.reading = false;
  }

  connectedCallback() {
    super.connectedCallback();
    this.leave = whenBack(() => this.error && this.changed(this.id));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.end?.();
    this.leave?.();
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if (!changed.has("id")) return;
    this.end?.();
    this.job = null;
    this.events = [];
    this.sentences = [];
    this.error = null;
    const { id } = this;
    // At once, and not only when the stream is there; of what the stream then tells, what is known is not read again.
    this.changed(id);
    this.end = client.watch(
      id,
      ({ version }) => version > (this.job?.version ?? 0) && this.changed(id),
      (error) => this.fail(id, error),
    );
  }

  /**
   * What is changed while it is being read is read after that, once: no reading overtakes another.
   *
   * @param {string} id
   */
  async changed(id) {
    this.stale = id;
    if (this.reading) return;
    this.reading = true;
    while (this.stale) {
      const next = this.stale;
      this.stale = "";
      await this.read(next);
    }
    this.reading = false;
  }

  /** The job whole, and what happened to it: at each of its changes, never besides. @param {string} id */
  async read(id) {
    try {
      const { job } = await ask(`/api/jobs/${id}`);
      /** @type {Happened[]} */
      const events = [];
      for (let after = ""; ; ) {
        const page = await ask(`/api/jobs/${id}/events?limit=500${after && `&after=${after}`}`);
        events.push(...page.events);
        if (!page.next) break;
        after = page.next;
      }
      const told = await ask(`/api/jobs/${id}/explain`).catch(() => null);
      if (id !== this.id) return;
      Object.assign(this, { job, events, sentences: told?.sentences ?? [], error: null });
      this.requestUpdate();
    } catch (error) {
      this.fail(id, error);
    }
  }

  /**
   * @param {string} id
   * @param {any} error
   */
  fail(id, error) {
    if (id !== this.id) return;
    this.error = error;
    this.requestUpdate();
  }

  render() {
    const { job } = this;
    const back = html`<p><a href=${addressOf({ job: null })} @click=${follow}>All active jobs</a></p>`;
    if (!job) return html`${back} ${this.error ? trouble("This job", this.error, () => this.changed(this.id)) : loading()}`;
    const address = webAddress(job.url);
    return html`
      <article class="job-page">
        ${back}
        <header>
          <h1>${address ? html`<a href=${address} target="_blank" rel="noopener noreferrer nofollow">${nameOf(job)}</a>` : nameOf(job)}</h1>
          <span class="state" data-state=${job.state}>${job.state}</span>
          ${this.acts(job)}
        </header>
        ${this.error ? html`<p role="alert">As last read. ${why(this.error)}</p>` : nothing}
        ${job.error ? html`<p role="alert"><strong>${job.error.code}</strong> ${job.error.message}</p>` : nothing}
        ${job.progress
          ? html`<p>
              <progress max="100" value=${job.progress.percent ?? nothing} aria-label="Progress"></progress>
              ${job.progress.percent == null ? "" : `${job.progress.percent} %`} ${job.progress.message ?? ""}
            </p>`
          : nothing}
        ${this.sentences.length
          ? html`<section aria-labelledby="why">
              <h2 id="why">Why</h2>
              <ul>
                ${this.sentences.map(({ sentence, positions }) => html`<li>${sentence} <small>${positions.join(", ")}</small></li>`)}
              </ul>
            </section>`
          : nothing}
        <section aria-labelledby="what">
          <h2 id="what">What</h2>
          ${this.facts(job)}
        </section>
        <section aria-labelledby="happened">
          <h2 id="happened">What happened</h2>
          ${this.timeline(this.events)}
        </section>
        ${["input", "result", "metadata"].map((name) => this.folded(name, job[name]))}
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
        ${SHOWN.map(([field, name]) => (job[field] == null || job[field] === "" ? nothing : html`<dt>${name}</dt><dd>${job[field]}</dd>`))}
        ${MOMENTS.map(([field, name]) =>
          job[field] ? html`<dt>${name}</dt><dd><time datetime=${job[field]}>${clock(job[field])}</time></dd>` : nothing,
        )}
        ${RELATED.map(([field, name]) =>
          job[field]
            ? html`<dt>${name}</dt><dd><a href=${addressOf({ job: job[field] })} @click=${follow}>${job[field]}</a></dd>`
            : nothing,
        )}
      </dl>
    `;
  }

  /** Each event at its moment, with the time that passed before it. @param {Happened[]} events */
  timeline(events) {
    return html`
      <ol class="timeline">
        ${events.map((event, place) => {
          const before = events[place - 1];
          const gapS = before ? (Date.parse(event.at) - Date.parse(before.at)) / 1000 : 0;
          return html`
            <li data-type=${event.type}>
              ${gapS >= 1 ? html`<span class="gap">${span(gapS)} later</span>` : nothing}
              <time datetime=${event.at}>${clock(event.at)}</time>
              <strong>${event.type.replace("job.", "").replace("_", " ")}</strong>
              <span>${this.said(event)}</span>
              <small>${event.actor}, position ${event.position}</small>
            </li>
          `;
        })}
      </ol>
    `;
  }

  /** @param {Happened} event */
  said({ data }) {
    const parts = [
      data.attempt && `attempt ${data.attempt}`,
      data.worker,
      data.percent != null && `${data.percent} %`,
      data.message,
      data.error?.message,
      data.reason,
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
customElements.define("job-page", JobPage);
