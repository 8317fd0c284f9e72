#!/bin/sh
# A watcher in curl and sh: follows one job to its end, or everything that the token may see, over cuts and restarts.
#
# Prints a line a frame: its name and its JSON. Lines with "job" are events, one each, none twice, none left out.
#
# Usage: JOBSVC_URL=http://127.0.0.1:8080 JOBSVC_TOKEN=... sh watcher.sh [JOB_ID]
set -u
if [ -z "${JOBSVC_TOKEN:-}" ]; then
  echo "usage: JOBSVC_URL=... JOBSVC_TOKEN=... sh watcher.sh [JOB_ID]" >&2
  exit 2
fi
url=${JOBSVC_URL:-http://127.0.0.1:8080}/api/stream
[ $# -eq 0 ] || url=${JOBSVC_URL:-http://127.0.0.1:8080}/api/jobs/$1/events

umask 077
folder=$(mktemp -d)
mkfifo "$folder/received"
pids=
trap 'rm -rf "$folder"' EXIT
trap '[ -z "$pids" ] || kill $pids 2>/dev/null; exit 0' TERM INT

# headers: the token, and the last id that was dealt with. In a file, since arguments can be read by everybody.
headers() {
  printf 'Accept: text/event-stream\nAuthorization: Bearer %s\n' "$JOBSVC_TOKEN" >"$folder/headers"
  [ ! -s "$folder/cursor" ] || printf 'Last-Event-ID: %s\n' "$(cat "$folder/cursor")" >>"$folder/headers"
}

# take: the frame in $event, $id, $frame is dealt with. Only then its id counts, so that a cut frame is sent again.
take() {
  [ -z "$event" ] || printf '%s %s\n' "$event" "$frame"
  case $event in
    reset) : >"$folder/cursor" ;;
    end) : >"$folder/over" ;;
  esac
  [ -z "$id" ] || printf '%s' "$id" >"$folder/cursor"
  event='' id='' frame=''
}

# read_frames: fields by line, a frame at each empty one; the status comes last, from curl.
read_frames() {
  event='' id='' frame=''
  while IFS= read -r line; do
    case $line in
      'event: '*) event=${line#event: } ;;
      'id: '*) id=${line#id: } ;;
      'data: '*) frame=${line#data: } ;;
      'retry: '*) printf '%s' "${line#retry: }" >"$folder/retry" ;;
      'status: 204') : >"$folder/over" ;;
      'status: 200' | 'status: 000' | 'status: 429' | 'status: 5'*) ;;
      'status: '*) printf '%s\n' "$line" >"$folder/refused" ;;
      '') take ;;
    esac
  done
}

: >"$folder/cursor"
while [ ! -e "$folder/over" ]; do
  printf 1000 >"$folder/retry"
  headers
  # Three heartbeats' time without a byte, and the connection is dead though nobody said so. The status's own line
  # begins with an x, so that a frame that was cut before its empty line stays cut.
  curl -sN -H "@$folder/headers" --speed-limit 1 --speed-time 45 -w 'x\nstatus: %{http_code}\n' "$url" \
    >"$folder/received" &
  pids=$!
  read_frames <"$folder/received" &
  pids="$pids $!"
  # Both in the background, so that SIGTERM need not wait for them.
  wait
  if [ -e "$folder/refused" ]; then
    cat "$folder/refused" >&2
    exit 1
  fi
  # What the service asked for; each watcher is asked for another time, so that they do not come back at once.
  [ -e "$folder/over" ] || sleep $(($(cat "$folder/retry") / 1000))
done
exit 0
