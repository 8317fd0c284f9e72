/** A plot over time, in the page's own colours, as wide as its place. */

import { html } from "lit";
import uPlot from "uplot";
import { Base } from "./base.js";

const HEIGHT_PX = 200;

/** @typedef {{name: string, ink: string, values: (number | null)[]}} Line */

class TimePlot extends Base {
  static properties = { lines: { attribute: false }, times: { attribute: false }, unit: {}, name: {} };

  constructor() {
    super();
    /** @type {Line[]} */
    this.lines = [];
    /** @type {number[]} Seconds since the epoch. */
    this.times = [];
    this.unit = "";
    this.name = "";
    /** @type {uPlot | null} */
    this.plot = null;
    this.wide = new ResizeObserver(([{ contentRect }]) => this.plot?.setSize({ width: contentRect.width, height: HEIGHT_PX }));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.wide.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  render() {
    const last = this.lines.map(({ name, values }) => `${name} ${values.at(-1) ?? 0}${this.unit}`).join(", ");
    return html`<div class="plot" role="img" aria-label="${this.name}: at last ${last}"></div>`;
  }

  updated() {
    const place = /** @type {HTMLElement} */ (this.querySelector(".plot"));
    /** @type {uPlot.AlignedData} */
    const data = [this.times, ...this.lines.map(({ values }) => values)];
    if (this.plot) {
      this.plot.setData(data);
      return;
    }
    const style = getComputedStyle(this);
    const ink = (/** @type {string} */ name) => style.getPropertyValue(name) || "gray";
    const axis = { stroke: () => resolved(this, "--soft"), grid: { stroke: () => resolved(this, "--line"), width: 1 } };
    this.plot = new uPlot(
      {
        width: place.clientWidth || 300,
        height: HEIGHT_PX,
        series: [
          {},
          ...this.lines.map((line) => ({
            label: line.name,
            stroke: () => resolved(this, line.ink) || ink(line.ink),
            width: 2,
            points: { show: false },
            value: (/** @type {uPlot} */ _, /** @type {number | null} */ value) => (value == null ? "" : `${value}${this.unit}`),
          })),
        ],
        axes: [axis, { ...axis, size: 56 }],
      },
      data,
      place,
    );
    this.wide.observe(place);
  }
}

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
