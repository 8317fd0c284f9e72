// A program without a DOM, such as React Native: its fetch cannot stream. Prints what it learns, a line of JSON each.
import { createClient } from "../../jobsvc/http/client/jobsvc.js";

const [baseUrl, token, streams] = process.argv.slice(2);
const plain = async (url, options) => {
  const answer = await fetch(url, options);
  if (streams === "true") return answer;
  const { status, ok, headers } = answer;
  return { status, ok, headers, json: () => answer.json() };
};
const client = createClient({ baseUrl, getToken: () => token, fetch: plain });
const handle = await client.submit({ kind: "x-post", key: "one" });
console.log(JSON.stringify({ id: handle.id }));
const job = await handle.done;
console.log(JSON.stringify({ state: job.state, result: job.result, how: client.status().state, left: client.active().length }));
client.close();
process.exit(0);
