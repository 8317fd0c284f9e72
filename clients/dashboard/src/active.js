/**
 * The active jobs, live: found by filters that stand in the address, held still when one wants to read, or as they were.
 *
 * Only the rows in sight are drawn, so that ten thousand cost no more than forty.
 */

import { html, nothing } from "lit";
import { live } from "lit/directives/live.js";
import { repeat } from "lit/directives/repeat.js";
import { openActs } from "./acts.js";
import { Base } from "./base.js";
import { choices, FIELDS, filtered } from "./filters.js";
import { addressOf, follow, go } from "./place.js";
import { ask, client, role } from "./service.js";
import { loading, trouble, whenBack } from "./states.js";
import { age, nameOf, ownerKind } from "./words.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */

const ROW_PX = 44;
const BEYOND = 8;
const PAGE = 1_000;
const NOTHING = "No job is active. What ends leaves this list by itself.";

class ActiveJobs extends Base {
  static properties = { place: { attribute: false } };

  constructor() {
    super();
    /** @type {Record<string, string>} */
    this.place = {};
    /** @type {Set<string>} */
    this.chosen = new Set();
    /** @type {readonly Job[] | null} What was on the list when it was held. */
    this.held = null;
    /** @type {readonly Job[] | null} What was on it then. */
    this.past = null;
    this.at = "";
    /** @type {symbol | undefined} */
    this.asked = undefined;
    this.head = 0;
    /** @type {unknown} Why it could not be read. */
    this.error = null;
    this.scrolled = 0;
    this.height = 600;
    this.now = Date.now();
  }

  connectedCallback() {
    super.connectedCallback();
    this.end = client.subscribe(() => this.requestUpdate());
    this.leave = whenBack(() => {
      this.readHead();
      if (this.error) this.travel();
    });
    this.ticking = setInterval(() => this.requestUpdate(), 1_000);
    this.onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && this.place.at && !document.querySelector("dialog[open]")) go({ at: null });
    };
    addEventListener("keydown", this.onKey);
    this.readHead();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.end?.();
    this.leave?.();
    clearInterval(this.ticking);
    if (this.onKey) removeEventListener("keydown", this.onKey);
  }

  /** How far one can go; what is asked for without an answer is asked for when the slider is next taken. */
  async readHead() {
    try {
      const { cursor } = await ask("/api/jobs/active?limit=1");
      this.head = Number(cursor.split(".").at(-1));
      this.requestUpdate();
    } catch {
      // The status says that the service is away; the list goes on from what is known.
    }
  }

  /** @param {Map<string, unknown>} changed */
  willUpdate(changed) {
    if (!changed.has("place")) return;
    const { at = "" } = this.place;
    if (at === this.at) return;
    // Once for each place, however often the page is drawn meanwhile: what was refused is not asked for again and again.
    this.at = at;
    this.travel();
  }

  /** The list as of the position that stands in the address; the newest that was asked for counts. */
  async travel() {
    const asked = (this.asked = Symbol());
    this.past = null;
    this.error = null;
    this.requestUpdate();
    if (!this.at) return;
    /** @type {Job[]} */
    const jobs = [];
    try {
      for (let after = ""; ; ) {
        const page = await ask(`/api/jobs/active?as_of=${encodeURIComponent(this.at)}&limit=${PAGE}${after && `&after=${after}`}`);
        if (asked !== this.asked) return;
        jobs.push(...page.jobs);
        if (!page.next) break;
        after = page.next;
      }
      this.past = jobs;
    } catch (error) {
      if (asked !== this.asked) return;
      this.error = error;
    }
    this.requestUpdate();
  }

  get source() {
    return this.place.at ? (this.past ?? []) : (this.held ?? client.active());
  }

  /** Whether anything may be done to what is listed: by an operator, to what is there now. */
  get mayChoose() {
    return role() === "operator" && !this.place.at;
  }

  render() {
    const source = this.source;
    const jobs = inOrder(filtered(source, this.place));
    const known = new Set(source.map(({ id }) => id));
    for (const id of this.chosen) if (!known.has(id)) this.chosen.delete(id);
    return html`
      <h1 class="out-of-sight">Active jobs</h1>
      ${this.tools(source, jobs)} ${this.slider()}
      ${this.error ? trouble("The list as of then", this.error, () => this.travel()) : this.table(jobs, source.length)}
    `;
  }

  /**
   * @param {readonly Job[]} source
   * @param {Job[]} jobs
   */
  tools(source, jobs) {
    const present = choices(source);
    const chosen = jobs.filter(({ id }) => this.chosen.has(id));
    return html`
      <form class="tools" role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
        <label class="search"
          >Find
          <input
            type="search"
            list="names"
            placeholder="title, URL, key, id, owner"
            .value=${live(this.place.q ?? "")}
            @input=${(/** @type {any} */ { target }) => go({ q: target.value }, { replace: true })}
        /></label>
        <datalist id="names">${jobs.slice(0, 30).map((job) => html`<option value=${nameOf(job)}></option>`)}</datalist>
        ${FIELDS.map(
          (field) => html`<label
            >${field[0].toUpperCase() + field.slice(1)}
            <select @change=${(/** @type {any} */ { target }) => go({ [field]: target.value })}>
              <option value="" .selected=${live(!this.place[field])}>any</option>
              ${[...withChosen(present[field], this.place[field])]
                .sort()
                .map(
                  ([value, count]) =>
                    html`<option value=${value} .selected=${live(this.place[field] === value)}>${value} (${count})</option>`,
                )}
            </select></label
          >`,
        )}
        <button type="button" aria-pressed=${this.held ? "true" : "false"} ?disabled=${Boolean(this.place.at) || !client.ready()} @click=${this.hold}>
          ${this.held ? "Go on" : "Pause"}
        </button>
        ${this.mayChoose
          ? html`<button type="button" ?disabled=${!chosen.length} @click=${() => this.act(chosen)}>
              Cancel or clean up ${chosen.length || ""}
            </button>`
          : nothing}
      </form>
    `;
  }

  slider() {
    // A link may name a moment instead of a position: it is as good, though it has no place on the slider.
    const head = Math.max(this.head, Number(this.place.at) || 0);
    if (!head && !this.place.at) return nothing;
    return html`
      <div class="slider">
        <label
          >As of position
          <input
            type="range"
            min="1"
            max=${head}
            .value=${live(this.place.at ?? String(head))}
            @focus=${this.readHead}
            @pointerdown=${this.readHead}
            @change=${(/** @type {any} */ { target }) => go({ at: Number(target.value) >= head ? null : target.value })}
          />
        </label>
        <output>${this.place.at ? `as of ${this.place.at}${head ? ` of ${head}` : ""}` : "now"}</output>
        ${this.place.at
          ? html`<button type="button" @click=${() => go({ at: null })}>Back to live <kbd>Esc</kbd></button>`
          : nothing}
      </div>
    `;
  }

  /**
   * @param {Job[]} jobs
   * @param {number} all
   */
  table(jobs, all) {
    if (this.place.at ? !this.past : !client.ready()) return loading();
    if (!jobs.length) {
      return html`<p class="empty">
        ${all ? "No active job is like that." : this.place.at ? "No job was active then." : NOTHING}
      </p>`;
    }
    const first = Math.max(0, Math.floor(this.scrolled / ROW_PX) - BEYOND);
    const last = Math.min(jobs.length, Math.ceil((this.scrolled + this.height) / ROW_PX) + BEYOND);
    return html`
      <div class="table" role="table" aria-label="Active jobs" aria-rowcount=${jobs.length + 1}>
        <div class="row head" role="row" aria-rowindex="1">
          <span role="columnheader"
            >${this.mayChoose
              ? html`<input
                  type="checkbox"
                  aria-label="Choose all ${jobs.length}"
                  .checked=${live(jobs.every(({ id }) => this.chosen.has(id)))}
                  @change=${(/** @type {any} */ { target }) => this.chooseAll(target.checked ? jobs : [])}
                />`
              : html`<span class="out-of-sight">Chosen</span>`}</span
          >
          ${["State", "Progress", "Job", "Kind", "Owner", "Attempt", "Worker", "Age"].map(
            (name) => html`<span role="columnheader">${name}</span>`,
          )}
        </div>
        <div
          class="rows"
          role="rowgroup"
          tabindex="0"
          aria-label="Rows"
          @scroll=${this.seeElsewhere}
          @keydown=${this.move}
        >
          <div class="whole" .style=${`--rows: ${jobs.length}`}>
            ${repeat(
              jobs.slice(first, last),
              ({ id }) => id,
              (job, place) => this.row(job, first + place),
            )}
          </div>
        </div>
      </div>
    `;
  }

  /**
   * @param {Job} job
   * @param {number} place
   */
  row(job, place) {
    const percent = job.progress?.percent;
    return html`
      <div class="row" role="row" aria-rowindex=${place + 2} .style=${`--place: ${place}`}>
        <span role="cell"
          >${this.mayChoose
            ? html`<input
                type="checkbox"
                aria-label="Choose ${nameOf(job)}"
                .checked=${live(this.chosen.has(job.id))}
                @change=${() => this.choose(job.id)}
              />`
            : nothing}</span
        >
        <span role="cell" class="state" data-state=${job.state}>${job.state}</span>
        <span role="cell" class="progress"
          >${percent == null ? nothing : html`<progress max="100" value=${percent} aria-label="${percent} %"></progress>`}
          <small>${job.progress?.message ?? job.error?.message ?? ""}</small></span
        >
        <span role="cell" class="job"
          ><a href=${addressOf({ job: job.id })} @click=${follow} title=${nameOf(job)}>${nameOf(job)}</a
          >${job.key && job.key !== nameOf(job) ? html`<small class="key" title=${job.key}>${job.key}</small>` : nothing}</span
        >
        <span role="cell">${job.kind}</span>
        <span role="cell">${ownerKind(job.owner)}</span>
        <span role="cell">${job.attempt} of ${job.max_attempts}</span>
        <span role="cell">${job.worker ?? ""}</span>
        <span role="cell">${age(job.created_at)}</span>
      </div>
    `;
  }

  updated() {
    const rows = this.querySelector(".rows");
    if (!rows?.clientHeight) return;
    // A list that was gone is at its top when it is back, whatever was seen of it before.
    if (rows.clientHeight === this.height && rows.scrollTop === this.scrolled) return;
    this.height = rows.clientHeight;
    this.scrolled = rows.scrollTop;
    this.requestUpdate();
  }

  /** @param {Event} event */
  seeElsewhere(event) {
    this.scrolled = /** @type {HTMLElement} */ (event.currentTarget).scrollTop;
    this.requestUpdate();
  }

  /** From link to link with the arrow keys. @param {KeyboardEvent} event */
  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = /** @type {HTMLElement[]} */ ([...this.querySelectorAll(".rows .job a")]);
    const place = links.findIndex((link) => link === document.activeElement);
    links[place < 0 ? 0 : place + step]?.focus();
    event.preventDefault();
  }

  /** @param {string} id */
  choose(id) {
    this.chosen.delete(id) || this.chosen.add(id);
    this.requestUpdate();
  }

  /** @param {Job[]} jobs */
  chooseAll(jobs) {
    this.chosen = new Set(jobs.map(({ id }) => id));
    this.requestUpdate();
  }

  hold() {
    this.held = this.held ? null : client.active();
    this.requestUpdate();
  }

  /** @param {Job[]} jobs */
  async act(jobs) {
    if (!(await openActs(jobs))) return;
    this.chosen.clear();
    // The button that opened the dialog is of no use now: whoever has no mouse goes on from the list.
    (/** @type {HTMLElement | null} */ (this.querySelector(".rows")) ?? document.querySelector("main"))?.focus();
    this.requestUpdate();
  }
}
/** What is being worked on first, then what waits; the newest first in each. @param {Job[]} jobs */
function inOrder(jobs) {
  /** @type {Record<string, Job[]>} */
  const lots = { running: [], cancelling: [], retrying: [], queued: [], scheduled: [] };
  for (const job of jobs) lots[job.state]?.push(job);
  return Object.values(lots).flatMap((lot) => lot.reverse());
}

/**
 * What there is to choose from, and what is chosen though there is none of it now.
 *
 * @param {Map<string, number>} present
 * @param {string | undefined} chosen
 */
function withChosen(present, chosen) {
  return chosen && !present.has(chosen) ? new Map([...present, [chosen, 0]]) : present;
}

customElements.define("active-jobs", ActiveJobs);
