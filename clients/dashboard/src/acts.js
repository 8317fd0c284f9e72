/**
 * Acts: what an operator does to one job or many. First it says what it would touch, then it asks why, then it does it.
 *
 * Nothing is shown as done before the service has said so, and what comes of it the stream tells: no list is changed here.
 */

import { html, nothing, render } from "lit";
import { act } from "./service.js";
import { why } from "./states.js";
import { brief, nameOf } from "./words.js";

/** @typedef {import("../../browser/src/jobs.js").Job} Job */
/** @typedef {"cancel" | "cleanup" | "retry"} Verb */

const AT_ONCE = 4;
const SHOWN = 8;

/** @type {Record<Verb, {does: string, forces: boolean, path: (id: string) => string}>} */
const VERBS = {
  cancel: { does: "Cancel", forces: true, path: (id) => `/api/jobs/${id}/cancel` },
  cleanup: { does: "Clean up", forces: true, path: (id) => `/api/jobs/cleanup/${id}` },
  retry: { does: "Retry", forces: false, path: (id) => `/api/jobs/${id}/retry` },
};

/**
 * Resolves when the dialog is closed; true if anything was done.
 *
 * @param {readonly Job[]} jobs
 * @param {Verb[]} [verbs] From which to choose.
 * @returns {Promise<boolean>}
 */
export function openActs(jobs, verbs = ["cancel", "cleanup"]) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "act-title");
  document.body.append(dialog);
  let verb = verbs[0];
  let force = false;
  let reason = "";
  let done = 0;
  let running = false;
  /** What is to be done yet. @type {readonly Job[]} */
  let left = jobs;
  /** @type {{job: Job, line: string}[]} */
  let refused = [];

  const run = async () => {
    running = true;
    const rest = [...left];
    refused = [];
    draw();
    const one = async () => {
      for (let job = rest.shift(); job; job = rest.shift()) {
        try {
          await act(VERBS[verb].path(job.id), {
            ...(VERBS[verb].forces && force && { force }),
            ...(reason && { reason }),
          });
          done += 1;
        } catch (error) {
          refused.push({ job, line: `${brief(nameOf(job))}: ${why(error)}` });
        }
        draw();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    running = false;
    left = refused.map(({ job }) => job);
    if (refused.length) draw();
    else dialog.close();
  };

  const draw = () =>
    render(
      html`
        <form
          @submit=${(/** @type {Event} */ event) => {
            event.preventDefault();
            run();
          }}
        >
          <h2 id="act-title">${VERBS[verb].does} ${jobs.length === 1 ? "this job" : `${jobs.length} jobs`}</h2>
          ${verbs.length > 1
            ? html`<fieldset>
                <legend>What</legend>
                ${verbs.map(
                  (each) => html`<label
                    ><input
                      type="radio"
                      name="verb"
                      .checked=${each === verb}
                      @change=${() => {
                        verb = each;
                        draw();
                      }}
                    />
                    ${VERBS[each].does}</label
                  >`,
                )}
              </fieldset>`
            : nothing}
          <p id="touches">It touches:</p>
          <ul tabindex="0" aria-labelledby="touches">
            ${jobs.slice(0, SHOWN).map((job) => html`<li>${brief(nameOf(job))} <small>${job.state}</small></li>`)}
            ${jobs.length > SHOWN ? html`<li>and ${jobs.length - SHOWN} more</li>` : nothing}
          </ul>
          ${VERBS[verb].forces
            ? html`<label
                ><input
                  type="checkbox"
                  .checked=${force}
                  @change=${(/** @type {any} */ { target }) => {
                    force = target.checked;
                    draw();
                  }}
                />
                At once, though a worker holds it. This cannot be undone.</label
              >`
            : nothing}
          <label
            >Reason, for the log
            <input
              maxlength="1000"
              .value=${reason}
              @input=${(/** @type {any} */ { target }) => {
                reason = target.value;
              }}
          /></label>
          ${refused.length
            ? html`<div role="alert">
                <p id="undone">${done} done, ${refused.length} not:</p>
                <ul tabindex="0" aria-labelledby="undone">
                  ${refused.slice(0, SHOWN).map(({ line }) => html`<li>${line}</li>`)}
                  ${refused.length > SHOWN ? html`<li>and ${refused.length - SHOWN} more</li>` : nothing}
                </ul>
              </div>`
            : nothing}
          <menu>
            <button type="button" ?disabled=${running} @click=${() => dialog.close()}>Close</button>
            <button class=${force ? "danger" : ""} ?disabled=${running}>
              ${running ? `${done} of ${jobs.length}` : refused.length ? `Try ${refused.length} again` : begins(verb, jobs)}
            </button>
          </menu>
        </form>
      `,
      dialog,
    );

  draw();
  // What is under way is seen to its end: nobody is left without word of what was refused. Not at the dialog's "cancel",
  // which Chromium lets nobody prevent twice; and anywhere, since the button that had the focus is disabled.
  const stay = (/** @type {KeyboardEvent} */ event) => running && event.key === "Escape" && event.preventDefault();
  addEventListener("keydown", stay);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      removeEventListener("keydown", stay);
      dialog.remove();
      resolve(done > 0);
    });
  });
}

/**
 * @param {Verb} verb
 * @param {readonly Job[]} jobs
 */
const begins = (verb, jobs) => `${VERBS[verb].does} ${jobs.length === 1 ? "it" : jobs.length}`;
