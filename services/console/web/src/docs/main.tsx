/** Starts the API's page: asks for the contract and for the code that shows it at once. */
import { createRoot } from "react-dom/client";
import { applyTheme, rememberedTheme } from "../theme";
import { fetchContract } from "./contract";
import { Missing } from "./Missing";
import "./docs.css";

applyTheme(rememberedTheme());
const root = createRoot(document.getElementById("root") ?? document.body);
Promise.all([fetchContract(), import("./Reference")]).then(
  ([contract, { Reference }]) => root.render(<Reference contract={contract} />),
  (error: unknown) => root.render(<Missing why={error instanceof Error ? error.message : String(error)} />),
);
