/**
 * Why a job is as it is: the sentences of its explanation, question by question, each with the events behind it.
 *
 * When they are asked for is job.js's, and how is reading.js's. Nothing is concluded here: what is not in a sentence of the
 * service is not said.
 */

import { html, nothing } from "lit";
import { brief, withClocks } from "./words.js";

/** @typedef {import("./reading.js").Sentence} Sentence */

const MANY = 6;
const ROWS = 200;
const QUESTIONS = /** @type {const} */ ([
  ["why_active", "Why is it active?"],
  ["why_ended", "Why did it end?"],
  ["who_cancelled", "Who cancelled it?"],
  ["why_this_job", "Why was I given this job?"],
  ["which_rule", "Which rule made its key?"],
]);

/**
 * In sentences, question by question. What happened is told event by event, so as sentences only on demand.
 *
 * @param {Sentence[]} sentences
 * @param {unknown} [missing] What is said of sentences that could not be had.
 */
export function explanation(sentences, missing = nothing) {
  /** @param {string} question */
  const of = (question) => sentences.filter((one) => one.question === question);
  const told = of("what_happened");
  if (!sentences.length && missing === nothing) return nothing;
  return html`<section aria-labelledby="why">
    <h2 id="why">Why</h2>
    ${missing}
    <dl class="why">
      ${QUESTIONS.map(([question, asked]) => {
        const answers = of(question);
        return answers.length ? html`<dt>${asked}</dt>${answers.map((one) => html`<dd>${sentence(one)}</dd>`)}` : nothing;
      })}
    </dl>
    ${told.length
      ? html`<details>
          <summary>What happened, in sentences</summary>
          <ul>
            ${told.length > ROWS ? html`<li>The last ${ROWS} of ${told.length}:</li>` : nothing}
            ${told.slice(-ROWS).map((one) => html`<li>${sentence(one)}</li>`)}
          </ul>
        </details>`
      : nothing}
  </section>`;
}

/** @param {Sentence} sentence */
const sentence = ({ sentence, positions }) => html`${brief(withClocks(sentence))} <small>${behind(positions)}</small>`;

/** The events that make a sentence true. @param {number[]} positions */
function behind(positions) {
  if (positions.length > MANY) return `${positions.length} events, ${positions[0]} to ${positions.at(-1)}`;
  return positions.length ? `event ${positions.join(", ")}` : "";
}
