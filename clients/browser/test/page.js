/** The page that takes over what the server rendered, once the client knows more than the server did. */

import { createElement as el, StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { createClient } from "@jobsvc/client";
import { Screen } from "./screen.js";

const root = /** @type {HTMLElement} */ (document.querySelector("#root"));
const client = createClient();
await new Promise((resolve) => client.subscribe(() => client.ready() && resolve(null)));
hydrateRoot(root, el(StrictMode, null, el(Screen, { client, id: root.dataset.job ?? "" })), {
  onRecoverableError: (error) => console.error(error),
});
