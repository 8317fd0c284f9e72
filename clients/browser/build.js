/** The modules as they are served and published: bundled, small, each a file. `npm run build` also writes their types. */

import { build } from "esbuild";

await build({
  entryPoints: ["src/jobsvc.js", "src/worker.js", "src/react.js", "src/compat.js"],
  outdir: "dist",
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  external: ["react", "./jobsvc.js"],
  logLevel: "warning",
});
