/**
 * The SharedWorker: one hub for all tabs of a browser that are the same principal's.
 *
 * Its name says whose: another principal's tabs start another. A tab that is gone says so, or lets go of its lock, or
 * has not been heard of for so long that it cannot be there.
 */

import { Hub } from "./hub.js";

/** @typedef {import("./hub.js").Listener} Listener */

const SILENT_MS = 180_000;
const PATIENCE_MS = 3_000;
const PIECE = 200;

/** @type {Hub | null} */
let hub = null;
/** @type {Map<MessagePort, {listener: Listener | null, heardAt: number}>} */
const tabs = new Map();
/** @type {Map<number, (answer: {token: string | null}) => void>} */
const asked = new Map();
let questions = 0;

/**
 * One tab after another is asked for the token, the one last heard of first: a token that is renewed is renewed once.
 * Without any answer there is no token, which is not the same as being nobody.
 *
 * @param {boolean} again
 */
async function token(again) {
  for (const [port] of [...tabs].sort(([, one], [, other]) => other.heardAt - one.heardAt)) {
    const id = (questions += 1);
    const answer = await new Promise((/** @type {(answer: {token: string | null} | null) => void} */ resolve) => {
      asked.set(id, resolve);
      port.postMessage({ ask: "token", id, again });
      setTimeout(resolve, PATIENCE_MS, null);
    });
    asked.delete(id);
    if (answer) return answer.token;
  }
  throw new Error("no tab knows the token");
}

/**
 * A burst is told in pieces, so that no turn of a tab is long, however much came at once.
 *
 * @param {import("./jobs.js").Batch} batch
 * @param {(piece: import("./jobs.js").Batch) => void} tell
 */
function inPieces({ all, changed }, tell) {
  if (all || !changed.length) tell({ all, changed: changed.slice(0, PIECE) });
  for (let first = all ? PIECE : 0; first < changed.length; first += PIECE)
    tell({ all: null, changed: changed.slice(first, first + PIECE) });
}

/** @param {MessagePort} port */
function gone(port) {
  const tab = tabs.get(port);
  if (tab?.listener) hub?.leave(tab.listener);
  tabs.delete(port);
  port.close();
}

/**
 * @param {MessagePort} port
 * @param {any} message
 */
function told(port, { tell, ...said }) {
  const tab = tabs.get(port);
  if (!tab) return;
  tab.heardAt = Date.now();
  if (tell === "begin") {
    const tokens = said.tokens ? token : async () => null;
    hub ??= new Hub({ baseUrl: said.baseUrl, transport: said.transport, token: tokens, fetch: (...with_) => fetch(...with_) });
    if (said.lock) navigator.locks?.request(said.lock, () => gone(port));
  } else if (tell === "join" && hub && !tab.listener) {
    tab.listener = {
      onBatch: (batch) => inPieces(batch, (piece) => port.postMessage({ batch: piece })),
      onStatus: (status) => port.postMessage({ status }),
      onReset: () => port.postMessage({ reset: true }),
    };
    hub.join(tab.listener);
  } else if (tell === "leave" && tab.listener) {
    hub?.leave(tab.listener);
    tab.listener = null;
  } else if (tell === "token") asked.get(said.id)?.(said);
  else if (tell === "check") hub?.check(said.now);
  else if (tell === "restart") hub?.restart();
  else if (tell === "gone") gone(port);
  // Whoever hears nothing knows by it that we are no more.
  if (tell === "ping") port.postMessage({ pong: true });
}

setInterval(() => {
  for (const [port, tab] of tabs) if (Date.now() - tab.heardAt > SILENT_MS) gone(port);
}, 30_000);

/** @type {any} */ (globalThis).onconnect = (/** @type {MessageEvent} */ { ports: [port] }) => {
  tabs.set(port, { listener: null, heardAt: Date.now() });
  port.onmessage = ({ data }) => told(port, data);
};
