/** The shell: who is signed in, how the stream is, and which of the views is looked at. */

import { html, nothing } from "lit";
import "./active.js";
import { Base } from "./base.js";
import "./charts.js";
import "./job.js";
import { addressOf, follow, onMove, where } from "./place.js";
import { client, forgetToken, keepToken, role, token } from "./service.js";

const VIEWS = /** @type {const} */ ([
  ["", "Active jobs"],
  ["charts", "Charts"],
]);
const SAID = /** @type {Record<string, string>} */ ({
  connecting: "connecting",
  live: "live",
  degraded: "live, by long polls",
  offline: "offline, trying again",
  "signed-out": "signed out",
  denied: "not allowed",
  superseded: "opened elsewhere",
  closed: "closed",
});

class Dashboard extends Base {
  constructor() {
    super();
    onMove(() => this.requestUpdate());
    client.subscribe(() => this.requestUpdate());
  }

  render() {
    const { state } = client.status();
    const place = where();
    const signedOut = !token() || state === "signed-out" || state === "denied";
    return html`
      <header>
        <a class="name" href="/" @click=${follow}>jobsvc</a>
        <nav aria-label="Views">
          ${VIEWS.map(
            ([view, name]) => html`<a
              href=${addressOf({ view, job: null, at: null })}
              aria-current=${(place.view ?? "") === view && !place.job ? "page" : nothing}
              @click=${follow}
              >${name}</a
            >`,
          )}
          <a href="/docs">API</a>
        </nav>
        <p role="status" class="status" data-state=${state}>
          ${signedOut ? "signed out" : SAID[state]}${client.ready() && !signedOut ? `, ${client.active().length} active` : ""}
        </p>
        ${token() ? html`<button class="quiet" @click=${this.signOut}>Sign out</button>` : nothing}
      </header>
      <main id="main" tabindex="-1">${signedOut ? this.signIn(state) : this.view(place)}</main>
    `;
  }

  /** @param {Record<string, string>} place */
  view(place) {
    if (place.job) return html`<job-page .id=${place.job}></job-page>`;
    if (place.view === "charts") return html`<job-charts></job-charts>`;
    return html`<active-jobs .place=${place}></active-jobs>`;
  }

  /** @param {string} state */
  signIn(state) {
    return html`
      <form class="sign-in" @submit=${this.take}>
        <h1>Sign in</h1>
        ${state === "denied" ? html`<p role="alert">This token may not watch jobs.</p>` : nothing}
        <p>
          Open the link that <code>jobsvc serve</code> printed, or paste the token of a viewer or operator:
          <code>jobsvc token viewer</code>.
        </p>
        <label>Token <input name="token" required autocomplete="off" spellcheck="false" /></label>
        <button>Sign in</button>
      </form>
    `;
  }

  /** @param {SubmitEvent} event */
  take(event) {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target)).get("token");
    keepToken(String(given));
    location.reload();
  }

  signOut() {
    forgetToken();
    location.reload();
  }

  get mayAct() {
    return role() === "operator";
  }
}
customElements.define("job-dashboard", Dashboard);
