import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// While developing, the service runs beside Vite: what begins with /api is handed on to it. The client comes from the
// service too, so that its worker is of the page's own origin.
const service = process.env.JOBSVC_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { target: "es2022" },
  resolve: { dedupe: ["react"] },
  server: { proxy: { "/api": service } },
});
