/** Builds the page into gen/web: hashed files, nothing inline, the same bytes for the same sources. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  base: "/",
  build: {
    outDir: "../../../gen/web",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    sourcemap: false,
    target: "es2023",
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.txt" },
  },
  server: {
    // `npm run dev` against a running mesh.
    proxy: Object.fromEntries(["/v1", "/oidc", "/healthz"].map((path) => [path, "http://localhost:8080"])),
  },
});
