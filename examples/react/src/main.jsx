import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createClient } from "@jobsvc/client";
import { SavePosts } from "./SavePosts.jsx";
import "./style.css";

// Whoever comes without an account is a guest; a guest that there is stays the same.
await fetch("/api/sessions/guest", { method: "POST" });
const client = createClient();

createRoot(document.querySelector("#root")).render(
  <StrictMode>
    <SavePosts client={client} />
  </StrictMode>,
);
