/**
 * The lifeline: a job's life drawn along time, an attempt a lane. What there is to draw is lanes.js's.
 *
 * One stop for the keyboard; the arrow keys go from part to part, and what one is on is said below. The list of all that
 * happened stands beside it for who reads rather than looks.
 */

import { html, nothing, svg } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { Base } from "./base.js";
import { KINDS, Life } from "./lanes.js";
import { brief, clock, span } from "./words.js";

/** @typedef {import("./lanes.js").Part} Part */
/** @typedef {import("./lanes.js").Lane} Lane */

const LANES = 12;
const POINTS = 200;
const TICKS = 4;

class Lifeline extends Base {
  static properties = { events: { attribute: false }, active: { attribute: false } };

  constructor() {
    super();
    /** @type {import("./lanes.js").Happened[]} */
    this.events = [];
    this.active = false;
    this.life = new Life();
    /** @type {Part | null} What is pointed at; what there is now, as long as that is nothing. */
    this.on = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.ticking = setInterval(() => this.active && document.visibilityState === "visible" && this.requestUpdate(), 1_000);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this.ticking);
  }

  /** Gone through is only what is new; a second that passes moves the end of what goes on. @param {Map<string, any>} changed */
  willUpdate(changed) {
    if (changed.has("events") && changed.get("events")?.[0] !== this.events[0]) this.life = new Life();
    this.life.goThrough(this.events);
    this.life.goOn(Date.now());
  }

  render() {
    const { lanes } = this.life;
    const shown = lanes.slice(-LANES);
    const parts = shown.flatMap((lane) => lane.parts);
    if (!parts.length) return nothing;
    const from = Math.min(...parts.map((part) => part.from));
    const until = Math.max(from + 1, ...parts.map((part) => part.to));
    const on = /** @type {Part} */ (parts.find((part) => part === this.on) ?? parts.at(-1));
    /** @param {number} moment */
    const place = (moment) => ((moment - from) / (until - from)) * 100;
    return html`
      <figure class="lifeline" aria-label="Attempts along time">
        ${lanes.length > LANES ? html`<p><small>The last ${LANES} of ${lanes.length} lanes; all stand in the list.</small></p>` : nothing}
        <div role="group" aria-label="Parts; the arrow keys go from one to the next" @keydown=${this.move}>
          ${repeat(
            shown,
            (lane) => lane,
            (lane) => html`<div class="lane">
              <span class="of"><b>${lane.name}</b> <small>${lane.worker}</small></span>
              <div class="track">${repeat(lane.parts, (part) => part, (part) => this.piece(part, place, part === on))}</div>
            </div>`,
          )}
        </div>
        <div class="lane axis" aria-hidden="true">
          <span class="of"></span>
          <div class="track">${ticks(from, until).map(([at, text]) => html`<small .style=${`--from: ${place(at)}`}>${text}</small>`)}</div>
        </div>
        <output class="said">${brief(on.words)}. <small>From ${clock(iso(on.from))}</small></output>
        <ul class="legend">
          ${[...new Set(parts.map(({ kind }) => kind))].map((kind) => html`<li><i data-kind=${kind}></i>${KINDS[kind]}</li>`)}
        </ul>
      </figure>
    `;
  }

  /**
   * @param {Part} part
   * @param {(moment: number) => number} place
   * @param {boolean} isOn
   */
  piece(part, place, isOn) {
    const { kind, from, to, words, work } = part;
    const look = () => {
      this.on = part;
      this.requestUpdate();
    };
    return html`<button
      type="button"
      class=${from === to && !work ? "mark" : "stretch"}
      data-kind=${kind}
      aria-label=${words}
      aria-current=${isOn ? "true" : nothing}
      tabindex=${isOn ? 0 : -1}
      .style=${`--from: ${place(from)}; --long: ${place(to) - place(from)}`}
      @focus=${look}
      @pointerenter=${look}
    >
      ${work ? drawn(work, from, to) : nothing}
    </button>`;
  }

  /** @param {KeyboardEvent} event */
  move(event) {
    const parts = /** @type {HTMLElement[]} */ ([...this.querySelectorAll("button")]);
    // Where the focus is: what was drawn last may not know of it yet.
    const at = parts.indexOf(/** @type {HTMLElement} */ (event.target));
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: parts.length - 1 };
    const next = parts[/** @type {Record<string, number>} */ (steps)[event.key] ?? -1];
    if (!next) return;
    next.focus();
    event.preventDefault();
  }
}

/**
 * How far the work was, as a line from the bottom to the top, and below it when the lease was given and renewed.
 *
 * @param {import("./lanes.js").Work} work
 * @param {number} from
 * @param {number} to
 */
function drawn({ progress, renewed }, from, to) {
  const across = (/** @type {number} */ at) => (((at - from) / Math.max(1, to - from)) * 100).toFixed(2);
  const line = thinned(progress).map(([at, percent]) => `${across(at)},${(100 - percent).toFixed(1)}`);
  const far = 100 - (progress.at(-1)?.[1] ?? 0);
  return svg`<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
    ${line.length ? svg`<polyline points="0,100 ${line.join(" ")} 100,${far}" />` : nothing}
    ${thinned(renewed).map((at) => svg`<path d="M${across(at)},100 v-16" />`)}
  </svg>`;
}

/** No more of *all* than can be told apart, the last among them. @template T @param {T[]} all @returns {T[]} */
function thinned(all) {
  const step = Math.ceil(all.length / POINTS);
  return all.filter((_, place) => (all.length - 1 - place) % step === 0);
}

/** Moments along the way, each as how long after the beginning it is. @param {number} from @param {number} until @returns {[number, string][]} */
function ticks(from, until) {
  return Array.from({ length: TICKS + 1 }, (_, nth) => {
    const after = ((until - from) / TICKS) * nth;
    return [from + after, nth ? `+${after < 10_000 ? `${(after / 1000).toFixed(1)} s` : span(after / 1000)}` : "0"];
  });
}

/** @param {number} moment */
const iso = (moment) => new Date(moment).toISOString();

customElements.define("life-line", Lifeline);
