/**
 * Acts: what an operator does to one job or many. First it says what it would touch, then it asks why, then it does it.
 */

import { html, nothing, render } from "lit";
import { act } from "./service.js";
import { nameOf } from "./words.js";

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
  /** @type {string[]} */
  let refused = [];

  const run = async () => {
    running = true;
    const rest = [...jobs];
    const one = async () => {
      for (let job = rest.shift(); job; job = rest.shift()) {
        try {
          await act(VERBS[verb].path(job.id), {
            ...(VERBS[verb].forces && force && { force }),
            ...(reason && { reason }),
          });
          done += 1;
        } catch (error) {
          refused = [...refused, `${nameOf(job)}: ${/** @type {Error} */ (error).message}`];
        }
        draw();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    running = false;
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
          <p>It touches:</p>
          <ul>
            ${jobs.slice(0, SHOWN).map((job) => html`<li>${nameOf(job)} <small>${job.state}</small></li>`)}
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
                <p>${done} done, ${refused.length} refused:</p>
                <ul>
                  ${refused.map((line) => html`<li>${line}</li>`)}
                </ul>
              </div>`
            : nothing}
          <menu>
            <button type="button" ?disabled=${running} @click=${() => dialog.close()}>Close</button>
            <button class=${force ? "danger" : ""} ?disabled=${running || Boolean(refused.length)}>
              ${running ? `${done} of ${jobs.length}` : `${VERBS[verb].does} ${jobs.length === 1 ? "it" : jobs.length}`}
            </button>
          </menu>
        </form>
      `,
      dialog,
    );

  draw();
  // What is under way is seen to its end: nobody is left without word of what was refused.
  dialog.addEventListener("cancel", (event) => running && event.preventDefault());
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done > 0);
    });
  });
}
