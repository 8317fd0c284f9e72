/**
 * Renders the screen as a server would and bundles the page that takes it over: prints both as one line of JSON, with
 * what of a browser was looked for meanwhile.
 *
 *     node server.mjs ID
 */

import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { createElement as el } from "react";
import { renderToString } from "react-dom/server";
import { createClient } from "@jobsvc/client";
import { Screen } from "./screen.js";

/** What no server has, or must not use while it renders. */
const BROWSERS = ["window", "document", "location", "SharedWorker", "EventSource", "fetch", "sessionStorage", "localStorage"];

const [id] = process.argv.slice(2);
/** @type {string[]} */
const touched = [];
const client = createClient({ baseUrl: "http://127.0.0.1:9" });
for (const name of BROWSERS) {
  Object.defineProperty(globalThis, name, { configurable: true, get: () => void touched.push(name) });
}
const markup = renderToString(el(Screen, { client, id }));
for (const name of BROWSERS) Reflect.deleteProperty(globalThis, name);

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "esm",
  write: false,
  define: { "process.env.NODE_ENV": '"development"' },
});
process.stdout.write(`${JSON.stringify({ markup, touched, script: outputFiles[0].text })}\n`);
