#!/bin/sh
# A worker in curl and sh: claims jobs of one kind, one at a time, and runs a command for each.
#
# The command finds the grant (JSON: job, lease_token, fence) on its input, JOB_ID and FENCE in its environment, and
# prints the result as JSON. Exit 0 completes the job, anything else fails the attempt. SIGTERM ends the command and
# gives the job back. The command itself is ended, not what it may have started. JOBSVC_LEASE_S is at least 3.
#
# JSON is not parsed here: two fields are cut out with sed, both where the user's own content cannot stand (the id is
# the first thing in the answer, the lease token comes after the job). A worker that does more wants a real parser.
#
# Usage: JOBSVC_URL=http://127.0.0.1:8080 JOBSVC_TOKEN=... sh worker.sh KIND COMMAND...
set -u
if [ $# -lt 2 ] || [ -z "${JOBSVC_TOKEN:-}" ]; then
  echo "usage: JOBSVC_URL=... JOBSVC_TOKEN=... sh worker.sh KIND COMMAND..." >&2
  exit 2
fi
url=${JOBSVC_URL:-http://127.0.0.1:8080}
lease_s=${JOBSVC_LEASE_S:-30}
name=${JOBSVC_WORKER:-sh-$$}
kind=$1
shift

umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# In a file, since arguments can be read by everybody on the machine.
printf 'Authorization: Bearer %s\n' "$JOBSVC_TOKEN" >"$folder/header"

stopping=
child=
trap 'stopping=yes; end_child' TERM INT

# end_child: twice, since a process that was just begun may miss a signal that comes before its first act.
end_child() {
  [ -z "$child" ] || { kill "$child"; sleep 1; kill "$child"; } 2>/dev/null
}

# post PATH NAME: sends the file NAME, leaves the answer in NAME.answer, prints the status; 000 is no answer.
# Only ever called in a subshell, which curl takes the place of: whoever ends that process ends the request.
post() {
  exec curl -s --max-time 40 -o "$folder/$2.answer" -w '%{http_code}' -H "@$folder/header" \
    -H 'Content-Type: application/json' --data-binary "@$folder/$2" "$url$1"
}

# pause: one to five seconds, by chance, so that many workers do not come back at once.
pause() {
  sleep $(($(od -An -N1 -tu1 /dev/urandom) % 5 + 1))
}

# ask WAIT_S: the body of a claim.
ask() {
  printf '{"kinds":["%s"],"max":1,"wait_s":%s,"lease_s":%s,"worker":"%s","claim_id":"%s"}' \
    "$kind" "$1" "$lease_s" "$name" "$claim_id" >"$folder/claim"
}

# claim: 0 if there is a job in claim.answer.
claim() {
  # The same claim_id with each repetition: if only the answer was lost, the same job comes.
  claim_id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  ask 25
  while [ -z "$stopping" ]; do
    # In the background, so that SIGTERM does not wait for the long poll.
    post /api/worker/claim claim >"$folder/status" &
    child=$!
    [ -z "$stopping" ] || end_child
    wait "$child"
    child=
    [ -z "$stopping" ] || break
    case $(cat "$folder/status") in
      200) return 0 ;;
      204) return 1 ;;
      000 | 429 | 5*) pause ;;
      *)
        cat "$folder/claim.answer" >&2
        exit 1
        ;;
    esac
  done
  # A job may have been granted in the very moment in which SIGTERM came: asked once more, it is known and given back.
  ask 0
  [ "$(post /api/worker/claim claim)" = 200 ]
}

# report VERB: sends the file VERB until there is an answer for good; sent twice, it is answered twice the same.
report() {
  while :; do
    status=$(post "/api/worker/jobs/$id/$1" "$1")
    case $status in
      000 | 429 | 5*) pause ;;
      *) break ;;
    esac
  done
  echo "$id $1 $status"
  [ "$status" != 400 ] && [ "$status" != 413 ] && [ "$status" != 422 ]
}

# beat COMMAND_PID: a heartbeat at a third of the lease; its answer may say that the job is not wanted any more.
beat() {
  while sleep $((lease_s / 3)) && kill -0 "$1" 2>/dev/null; do
    case $(post "/api/worker/jobs/$id/heartbeat" heartbeat) in
      200) grep -q '"cancel_requested":true' "$folder/heartbeat.answer" || continue ;;
      403 | 404 | 409) : >"$folder/lost" ;;
      *) continue ;;
    esac
    : >"$folder/unwanted"
    kill "$1"
    return
  done
}

# run: the job of claim.answer is done, failed or given back, and the service was told; or it is not ours any more.
run() {
  id=$(sed -n 's/^{"jobs":\[{"job":{"id":"\([^"]*\)".*/\1/p' "$folder/claim.answer")
  token=$(sed -n 's/.*"lease_token":"\([^"]*\)".*/\1/p' "$folder/claim.answer")
  fence=$(sed -n 's/.*"fence":\([0-9]*\).*/\1/p' "$folder/claim.answer")
  rm -f "$folder/lost" "$folder/unwanted"
  printf '{"lease_token":"%s"}' "$token" | tee "$folder/heartbeat" >"$folder/release"

  if [ -n "$stopping" ]; then
    report release
    return
  fi
  JOB_ID=$id FENCE=$fence "$@" <"$folder/claim.answer" >"$folder/result" &
  child=$!
  [ -z "$stopping" ] || end_child
  beat "$child" >/dev/null 2>&1 &
  beating=$!
  wait "$child"
  code=$?
  # Above 128 it may only have been the wait that ended.
  if [ "$code" -gt 128 ]; then
    wait "$child"
    code=$?
  fi
  child=
  kill "$beating" 2>/dev/null

  if [ "$code" = 0 ]; then
    { printf '{"lease_token":"%s","result":' "$token" && cat "$folder/result" && printf '}'; } >"$folder/complete"
    report complete || fail result_refused "the command did not print JSON that the service takes" false
  elif [ -e "$folder/lost" ]; then
    echo "$id lost"
  elif [ -n "$stopping" ] || [ -e "$folder/unwanted" ]; then
    report release
  else
    fail failed "the command ended with $code" true
  fi
}

# fail CODE MESSAGE RETRYABLE
fail() {
  printf '{"lease_token":"%s","error":{"code":"%s","message":"%s"},"retryable":%s}' "$token" "$1" "$2" "$3" \
    >"$folder/fail"
  report fail
}

while [ -z "$stopping" ]; do
  if claim; then run "$@"; fi
done
exit 0
