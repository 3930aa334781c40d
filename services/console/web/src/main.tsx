/** Starts the page: the only file that knows every part. */
import { createRoot } from "react-dom/client";
import { Session } from "./session/session";
import { applyTheme, rememberedTheme } from "./theme";
import { App } from "./view/App";
import "./style/index.css";

applyTheme(rememberedTheme());
const session = new Session();
const root = document.getElementById("root");
if (root) createRoot(root).render(<App session={session} />);
void session.begin();
