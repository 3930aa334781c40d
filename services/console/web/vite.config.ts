/** Builds the page into gen/web: hashed files, nothing inline, the same bytes for the same sources. */
import { readFileSync } from "node:fs";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

export default defineConfig({
  plugins: [react(), fontLicense()],
  base: "/",
  build: {
    outDir: "../../../gen/web",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    sourcemap: false,
    target: "es2023",
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.txt" },
    rolldownOptions: { input: ["index.html", "docs.html"] },
  },
  server: {
    // `npm run dev` against a running mesh.
    proxy: Object.fromEntries(
      ["/v1", "/oidc", "/healthz", "/openapi.json"].map((path) => [path, "http://localhost:8080"]),
    ),
  },
});

/** The typefaces' licence wants to travel with them; `build.license` sees scripts only. */
function fontLicense(): Plugin {
  return {
    name: "font-license",
    apply: "build",
    generateBundle() {
      const source = readFileSync("node_modules/@fontsource-variable/geist/LICENSE", "utf8");
      this.emitFile({ type: "asset", fileName: "licenses-fonts.txt", source });
    },
  };
}
