/** A screen with every hook on it, as a server renders it and a page takes it over. */

import { createElement as el } from "react";
import { useActiveJobs, useJob, useStreamStatus, useSubmit } from "@jobsvc/client/react";

/** @param {{client: any, id: string}} props */
export function Screen({ client, id }) {
  const jobs = useActiveJobs(client);
  const { state } = useStreamStatus(client);
  const job = useJob(client, id);
  const { pending } = useSubmit(client);
  return el(
    "section",
    null,
    el("output", { "data-state": state }, job ? job.state : "not known yet"),
    jobs.length ? el("ul", null, jobs.map((one) => el("li", { key: one.id }, one.title))) : el("p", null, "Nothing is active."),
    el("button", { disabled: pending }, "Save"),
  );
}
