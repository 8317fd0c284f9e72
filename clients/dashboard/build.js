/**
 * The dashboard as the service serves it: one page, one script, one style.
 *
 * Nothing is fetched while it is built, and what is built names no other host: the page's policy would refuse it.
 */

import { build } from "esbuild";
import { cpSync, mkdirSync } from "node:fs";

mkdirSync("dist", { recursive: true });
await build({
  entryPoints: ["src/app.js", "src/app.css"],
  outdir: "dist",
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  // The service serves the client itself, so that dashboard and pages of a platform can share a worker.
  external: ["/client/v1/*"],
  logLevel: "warning",
});
cpSync("src/index.html", "dist/index.html");
