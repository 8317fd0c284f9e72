/**
 * The shell: who is signed in, how the stream is, and which of the views is looked at.
 *
 * What a view shows is the view's own; here is nothing of a job, and no question to the service.
 */

import { html, nothing } from "lit";
import "./active.js";
import { Base } from "./base.js";
import "./charts.js";
import "./job.js";
import { addressOf, follow, onMove, where } from "./place.js";
import { client, forgetToken, keepToken, link, token } from "./service.js";
import { awaySince } from "./states.js";
import { clock } from "./words.js";

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
      ${signedOut ? nothing : this.notice(state)}
      <main id="main" tabindex="-1">${signedOut ? this.signIn(state) : this.view(place)}</main>
    `;
  }

  /** What is not as it should be with the stream, and what comes of it. @param {string} state */
  notice(state) {
    const since = awaySince();
    if (since) {
      return html`<p role="alert" class="notice">
        ${client.ready()
          ? `Offline since ${clock(since)}. What is shown is as it was then.`
          : "The service does not answer. See whether it runs."}
        This page goes on by itself as soon as it is back.
      </p>`;
    }
    if (state === "superseded") {
      return html`<p role="alert" class="notice">
        You have the service open in more places than you may, and this one was the oldest: nothing moves here.
        <button @click=${() => client.signedIn()}>Go on here</button>
      </p>`;
    }
    return nothing;
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
        ${refusal(state)}
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
}

/** Why one who tried is not signed in. @param {string} state */
function refusal(state) {
  if (link === "spent") return html`<p role="alert">This link was used before, or is too old: each is good once, for ten minutes.</p>`;
  if (link === "waits") {
    return html`<div role="alert">
      <p>The service could not look at your link just now. It still stands in the address: have it looked at again.</p>
      <button type="button" @click=${() => location.reload()}>Try again</button>
    </div>`;
  }
  if (!token()) return nothing;
  if (state === "denied") return html`<p role="alert">This token may not watch jobs.</p>`;
  return html`<p role="alert">Your token is not believed: it has run out, or was made with another secret.</p>`;
}

customElements.define("job-dashboard", Dashboard);
