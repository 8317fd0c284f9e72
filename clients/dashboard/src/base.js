/**
 * An element that renders into the page itself, with the page's own style, at most once a frame.
 *
 * What all elements have in common stands here, and nothing that only one of them shows.
 */

import { LitElement } from "lit";

export class Base extends LitElement {
  createRenderRoot() {
    return this;
  }

  /** A burst of events is one picture: what changed between two frames is drawn once. @returns {Promise<unknown>} */
  async scheduleUpdate() {
    if (document.visibilityState === "visible") await new Promise((resolve) => requestAnimationFrame(resolve));
    return super.scheduleUpdate();
  }
}
