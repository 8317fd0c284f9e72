// A page of a platform: it saves posts and shows what is active. Several components, each with a client of its own.
import { createClient, JobsvcError } from "/client/v1/jobsvc.js";
import { oldStyle } from "/client/v1/compat.js";

const asked = new URLSearchParams(location.search);
const options = JSON.parse(asked.get("options") ?? "{}");
const token = asked.get("token");
if (token) options.getToken = () => token;
const components = Array.from({ length: Number(asked.get("components") ?? 1) }, () => createClient(options));
const [client] = components;

const shown = components.map(() => []);
components.forEach((one, place) =>
  one.subscribe(() => {
    shown[place] = one.active().map((job) => [job.id, job.version, job.state]);
    if (place) return;
    document.querySelector("#status").textContent = one.status().state;
    document.querySelector("#jobs").replaceChildren(
      ...one.active().map((job) => Object.assign(document.createElement("li"), { textContent: `${job.url} ${job.state}` })),
    );
  }),
);

Object.assign(globalThis, { client, components, shown, oldStyle: oldStyle(client), JobsvcError });
