/**
 * A plot over time, in the page's own colours, as wide as its place; for who cannot see it, in words.
 *
 * It is given its lines: what they mean, and where they come from, is charts.js's.
 */

import { html } from "lit";
import uPlot from "uplot";
import { Base } from "./base.js";

const HEIGHT_PX = 180;
const COUNTS = [1, 2, 5].flatMap((digit) => Array.from({ length: 10 }, (_, zeros) => digit * 10 ** zeros)).sort((a, b) => a - b);

/** @typedef {{name: string, ink: string, values: (number | null)[]}} Line */

class TimePlot extends Base {
  static properties = { lines: { attribute: false }, times: { attribute: false }, unit: {}, name: {} };

  constructor() {
    super();
    /** @type {Line[]} */
    this.lines = [];
    /** @type {number[]} Seconds since the epoch. */
    this.times = [];
    /** Of what is measured; empty for what is counted. */
    this.unit = "";
    this.name = "";
    /** @type {uPlot | null} */
    this.plot = null;
    this.wide = new ResizeObserver(([{ contentRect }]) => this.plot?.setSize({ width: contentRect.width, height: HEIGHT_PX }));
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.plot?.redraw(false);
  }

  connectedCallback() {
    super.connectedCallback();
    this.dark.addEventListener("change", this.redraw);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.dark.removeEventListener("change", this.redraw);
    this.wide.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  render() {
    return html`<div class="plot" role="img" aria-label="${this.name}: ${this.words()}"></div>`;
  }

  /** The plot for who cannot see it: what each line is now, and the most that it was. */
  words() {
    const last = this.lines.map(({ name, values }) => `${name} ${this.amount(values.at(-1))}`);
    const most = this.lines.map(({ name, values }) => `${name} ${this.amount(highest(values))}`);
    return `at last ${last.join(", ")}; at most ${most.join(", ")}`;
  }

  /** @param {number | null | undefined} value */
  amount(value) {
    return value == null ? "none" : `${Number(value.toPrecision(3))}${this.unit}`;
  }

  updated() {
    /** @type {uPlot.AlignedData} */
    const data = [this.times, ...this.lines.map(({ values }) => values)];
    if (this.plot) {
      this.plot.setData(data);
      return;
    }
    const place = /** @type {HTMLElement} */ (this.querySelector(".plot"));
    this.plot = new uPlot(this.look(place.clientWidth || 300), data, place);
    this.wide.observe(place);
  }

  /** @param {number} width @returns {uPlot.Options} */
  look(width) {
    const axis = { stroke: () => resolved(this, "--soft"), grid: { stroke: () => resolved(this, "--line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: HEIGHT_PX,
      series: [{ value: (_, at) => (at == null ? "–" : hour(at)) }, ...this.lines.map((line) => this.series(line))],
      scales: { y: { range: (_, __, most) => [0, Math.max(most ?? 0, this.unit ? 0.1 : 1) * 1.1] } },
      axes: [
        { ...axis, size: 34, gap: 8, values: (_, splits) => splits.map(hour) },
        { ...axis, size: 48, ...(!this.unit && { incrs: COUNTS }) },
      ],
      // What one points at in one plot is pointed at in all.
      cursor: { drag: { x: false, y: false }, sync: { key: "time" } },
    };
  }

  /** @param {Line} line @returns {uPlot.Series} */
  series({ name, ink }) {
    const stroke = () => resolved(this, ink);
    return {
      label: name,
      stroke,
      width: 2,
      points: { show: false, size: 5, stroke, fill: stroke, filter: (plot, place) => alone(plot.data[place]) },
      value: (_, value) => (value == null ? "–" : this.amount(value)),
    };
  }
}

/** @param {(number | null)[]} values */
const highest = (values) => values.reduce((most, value) => (value != null && (most == null || value > most) ? value : most), null);

/** Where there is a value between none: no line would show it. @param {uPlot.AlignedData[number]} values */
const alone = (values) =>
  [...values.keys()].filter((place) => values[place] != null && values[place - 1] == null && values[place + 1] == null);

/** @param {number} seconds Since the epoch. */
const hour = (seconds) => new Date(seconds * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** A variable of the style as a colour that a canvas understands, light or dark. @param {HTMLElement} place @param {string} name */
function resolved(place, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  place.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

customElements.define("time-plot", TimePlot);
