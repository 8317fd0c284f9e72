/**
 * Frames of the stream: from text as it arrives, in pieces cut anywhere, to `{event, id, data, retry}`.
 *
 * Server-sent events only (HTML standard, section 9.2.6); a long poll brings its frames as JSON.
 */

/**
 * @typedef {object} Frame
 * @property {string} event
 * @property {string | null} id
 * @property {any} data
 * @property {number} [retry]
 */

/**
 * A function that is fed text and gives back the frames that are whole.
 *
 * @returns {(text: string) => Frame[]}
 */
export function reader() {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).split("\n\n");
    rest = /** @type {string} */ (blocks.pop());
    return blocks.map(frame);
  };
}

/**
 * @param {string} block
 * @returns {Frame}
 */
function frame(block) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  const { event, id = null, data, retry } = fields;
  return { event, id, data: data && JSON.parse(data), ...(retry && { retry: Number(retry) }) };
}
