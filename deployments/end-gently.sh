#!/usr/bin/env bash
# Runs a command so that it can be ended well: end-gently.sh prefect worker start --pool gpu
#
# Told to end, Prefect's worker kills its flow runs, which then count as running for ever, and a Kubernetes
# job kills its own. Here SIGTERM or Ctrl-C reaches the flow runs first: they take a last checkpoint and report
# that they were ended. The command sleeps meanwhile, so that it takes on nothing new, and goes last.
set -euo pipefail
set -m # gives the command a process group of its own: Ctrl-C in a terminal reaches this script alone

grace_seconds=${HISTOFLOW_END_SECONDS:-60}

# shellcheck disable=SC2329 # the trap calls it
living() { # of the processes that ps is asked for; what has ended stays a zombie until the command wakes up
  ps "$@" -o pid= -o stat= | awk '$2 !~ /^Z/ {print $1}'
}

# shellcheck disable=SC2329
ends_within() {
  for ((second = 0; second < $1; second++)); do
    [[ -n $(living "${@:2}") ]] || return 0
    sleep 1
  done
  return 1
}

# shellcheck disable=SC2329
end() {
  told=yes
  trap '' TERM INT
  kill -STOP "$command"
  living --ppid "$command" | xargs --no-run-if-empty kill -TERM || true # one of them may have just ended
  ends_within "$grace_seconds" --ppid "$command" || true
  kill -TERM "$command"
  kill -CONT "$command"
  ends_within 15 --pid "$command" || kill -KILL "$command"
}

"$@" &
command=$!
trap end TERM INT
status=0
wait "$command" || status=$?
if [[ -n ${told:-} ]]; then # only the wait had ended, by the signal
  status=0
  wait "$command" || status=$?
fi
exit "$status"
