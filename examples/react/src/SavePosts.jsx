import { useState } from "react";
import { useActiveJobs, useStreamStatus, useSubmit } from "@jobsvc/client/react";

/** The screen of the post-mortem: a post is saved by its URL, and the list says what is being saved. */
export function SavePosts({ client }) {
  return (
    <main>
      <header>
        <h1>Save a post</h1>
        <Connection client={client} />
      </header>
      <Save client={client} />
      <Saving client={client} />
    </main>
  );
}

/** No look for an active job first, no poller, no cleanup: the service says what came of it. */
function Save({ client }) {
  const [url, setUrl] = useState("");
  const { submit, job, deduplicated, error, pending } = useSubmit(client);

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        submit({ kind: "x-post", url, dedup: { on_completed: "reuse" } });
      }}
    >
      <label>
        URL of the post
        <input type="url" required value={url} onChange={(event) => setUrl(event.target.value)} />
      </label>
      <button disabled={pending}>Save</button>
      <output>
        {error ? error.message : job && `${deduplicated ? "That one is here already: " : ""}${job.state}`}
      </output>
    </form>
  );
}

/** What is being saved now. A job leaves the list when it ends, whoever looks. */
function Saving({ client }) {
  const jobs = useActiveJobs(client);
  if (!jobs.length) return <p className="empty">Nothing is being saved.</p>;
  return (
    <ul>
      {jobs.map((job) => (
        <li key={job.id}>
          <span>{job.url}</span>
          <progress max="100" value={job.progress?.percent ?? undefined} aria-label={job.state} />
          <span>{job.progress?.message ?? job.state}</span>
          <button onClick={() => client.cancel(job.id)}>Cancel</button>
        </li>
      ))}
    </ul>
  );
}

function Connection({ client }) {
  const { state } = useStreamStatus(client);
  return <small data-state={state}>{state}</small>;
}
