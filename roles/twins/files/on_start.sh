#!/bin/bash
# Makes a notebook instance a twin: what the dispatcher rings for (bin/run-once), and the environment that runs need.
#
# The role puts `VAR='value'` lines before this file, which is then the OnStart lifecycle script. All but one are required:
#   TWINOPS_ENV       sandbox | staging | production
#   TWINOPS_REGION    AWS region
#   LEDGER_TABLE      DynamoDB table of the ledger
#   TOPIC_ARN         SNS topic of the mails about runs
#   REPORTS_BUCKET    where runs store their reports
#   DATA_BUCKET       where devices put their decisions
#   MODELS_BUCKET     where releases are published
#   REPOSITORY        URL (or path) that git fetches commits from
#   DATA_SOURCES      where else data is read, as a JSON object by name
#   PUSH_REPOSITORY   URL that branches with proposals are pushed to; may be empty
#   GIT_REF           commit or branch whose environment is built ahead of the first run
#
# AWS runs this as root at every start, allows five minutes, and keeps nothing but ~ec2-user/SageMaker. So everything
# is written there, every step may be repeated, and what takes long goes on in the background (log/prepare.log).
set -eu
umask 022

for name in TWINOPS_ENV TWINOPS_REGION LEDGER_TABLE TOPIC_ARN REPORTS_BUCKET DATA_BUCKET MODELS_BUCKET REPOSITORY \
    DATA_SOURCES GIT_REF; do
    if [ -z "${!name:-}" ]; then
        echo "on_start.sh: $name: expected a value in the lines that the role puts first, it is missing" >&2
        exit 1
    fi
done

owner=$(id -un)
persistent=$HOME/SageMaker
if [ -d /home/ec2-user/SageMaker ] && [ "$owner" = root ]; then
    owner=ec2-user
    persistent=/home/ec2-user/SageMaker
fi
home=$persistent/twinops
mkdir -p "$home/bin" "$home/code" "$home/envs" "$home/lock" "$home/log" "$home/runs"

# Writes standard input to a file of twinops by rename: a run that starts meanwhile sees the old or the new one.
put() {
    cat > "$home/$1.new"
    chmod "$2" "$home/$1.new"
    mv -f "$home/$1.new" "$home/$1"
}

text() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

put twin.json 644 <<JSON
{
  "env": $(text "$TWINOPS_ENV"),
  "region": $(text "$TWINOPS_REGION"),
  "ledger_table": $(text "$LEDGER_TABLE"),
  "topic_arn": $(text "$TOPIC_ARN"),
  "reports_bucket": $(text "$REPORTS_BUCKET"),
  "data_bucket": $(text "$DATA_BUCKET"),
  "models_bucket": $(text "$MODELS_BUCKET"),
  "repository": $(text "$REPOSITORY"),
  "push_repository": $(text "${PUSH_REPOSITORY:-}"),
  "data_sources": $DATA_SOURCES
}
JSON
printf '%s\n' "$REPOSITORY" | put repository 644

put bin/checkout 755 <<'SH'
#!/bin/sh
# checkout REF: prints the folder code/<commit>. Fetches exactly that commit; complete by rename or not there at all.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
ref=$1
there() {
    if [ -d "$home/code/$ref/workflows" ]; then
        echo "$home/code/$ref"
        exit 0
    fi
}
there
exec 9> "$home/lock/checkout"
flock 9
there # by whoever had the lock
part=$home/code/.part
for pause_s in 2 5 0; do
    rm -rf "$part"
    git init -q "$part"
    if git -C "$part" fetch -q --depth 1 "$(cat "$home/repository")" "$ref" >&2; then
        git -C "$part" -c advice.detachedHead=false checkout -q FETCH_HEAD
        commit=$(git -C "$part" rev-parse HEAD)
        if [ -d "$home/code/$commit" ]; then rm -rf "$part"; else mv "$part" "$home/code/$commit"; fi
        ln -sfn "$commit" "$home/code/latest"
        echo "$home/code/$commit"
        exit 0
    fi
    sleep "$pause_s"
done
echo "checkout: $ref: could not be fetched from $(cat "$home/repository")" >&2
exit 1
SH

put bin/environment 755 <<'SH'
#!/bin/sh
# environment LOCK: prints the folder envs/<digest of the lock>, a Python environment of exactly these packages.
# Built aside and renamed when complete; use it as bin/python -m ..., the paths in its scripts are those of the building.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
env=$home/envs/$(sha256sum "$1" | cut -c1-16)
part=$env.part

with_uv() {
    export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 # companies have certificate authorities of their own
    uv venv -q --no-project --python '>=3.11,<3.14' "$part" >&2 || return
    # From the cache alone, if it has everything: no index is asked, so none can be away.
    uv pip install -q --offline --python "$part/bin/python" --require-hashes -r "$1" > /dev/null 2>&1 && return
    uv pip install -q --python "$part/bin/python" --require-hashes -r "$1" >&2
}

with_pip() {
    for python in python3.13 python3.12 python3.11 python3; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null || continue
        "$python" -m venv "$part" >&2 || continue
        "$part/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$1" >&2
        return
    done
    echo "environment: expected uv that works, or Python 3.11-3.13, on the PATH of the twin; there is neither" >&2
    return 1
}

if [ ! -d "$env" ]; then
    until exec 9> "$env.lock" && flock 9 && [ "$env.lock" -ef /dev/fd/9 ]; do :; done # not one that was removed
fi
if [ ! -d "$env" ]; then
    rm -rf "$part"
    if ! { command -v uv > /dev/null && with_uv "$1"; }; then
        rm -rf "$part"
        with_pip "$1"
    fi
    mv "$part" "$env"
fi
echo "$env"
SH

put bin/run-once 755 <<'SH'
#!/bin/sh
# run-once RUN_ID EPOCH GIT_SHA: starts a run as the ledger has it, with the code of exactly that commit.
set -eu
cd "${0%/*}/.."
home=$PWD

# Asks the runner that stands by (toolbox.standby) first of all: every program started before delays the script.
words=ok
for word in "$1" "$2" "$3"; do
    case $word in '' | *[!0-9a-f]*) words=bad ;; esac
done
pipe=$home/standby/$3
asked=no
if [ "$words" = ok ] && [ -p "$pipe" ] && command exec 6<> "$pipe"; then # also opens when nobody reads
    echo "$1 $2 $$" >&6
    asked=yes
fi

log=$home/log/run-once.log
if [ -f "$log" ] && [ "$(wc -c < "$log")" -gt 1000000 ]; then
    mv -f "$log" "$log.1"
fi
(: >> "$log") 2> /dev/null || log=/dev/null # a full disk must not keep the runner from saying so in the ledger
exec >> "$log" 2>&1
echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) run-once $*" || :
if [ "$words" = bad ]; then
    echo "run-once: expected RUN_ID EPOCH GIT_SHA in hexadecimal digits, got: $*"
    exit 2
fi

taken=$home/standby/$1.$2.$$
tries=20
while [ "$asked" = yes ] && [ "$tries" -gt 0 ]; do
    sleep 0.1
    if [ -e "$taken" ]; then exec rm -f "$taken"; fi
    if flock -n 6; then asked=no; fi # nobody reads
    tries=$((tries - 1))
done
exec 6>&-

# use FD FOLDER: keeps housekeeping from a folder, there already or not, until this process ends. See toolbox.runner.
use() {
    lock=$home/lock/use-${2##*/}
    (: >> "$lock") 2> /dev/null || return 0 # a full disk
    until eval "exec $1>> \"\$lock\"" && flock -s "$1" && [ "$lock" -ef "/dev/fd/$1" ]; do :; done
}

# start CODE [ARGUMENT...]: hands over to the runner of a commit; bin/environment is only asked for one that is missing
start() {
    code=$1
    shift
    digest=$(sha256sum < "$code/workflows/runner.txt") || return
    runner=$home/envs/${digest%"${digest#????????????????}"}
    use 8 "$runner"
    [ -d "$runner" ] || runner=$("$home/bin/environment" "$code/workflows/runner.txt") || return
    export TWINOPS_HOME="$home" PYTHONPATH="$code/workflows:$code/module_utils"
    exec "$runner/bin/python" -m toolbox.run_once "$@"
}

code=$home/code/$3
use 7 "$code"
if [ -d "$code/workflows" ] || code=$("$home/bin/checkout" "$3"); then
    start "$code" "$1" "$2" "$3" || :
elif [ -d "$home/code/latest" ]; then
    start "$home/code/latest" "$1" "$2" "$3" --refuse "commit $3 could not be fetched from $(cat "$home/repository")" || :
fi
echo "run-once: $1 could not be started, see above; the ledger shows it as CLAIMED"
exit 1
SH

put bin/prepare 755 <<'SH'
#!/bin/sh
# prepare REF: builds ahead what the first run of a commit would have to wait for, and clears away what nobody uses.
# Prints the environments.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
code=$("$home/bin/checkout" "$1")
runner=$("$home/bin/environment" "$code/workflows/runner.txt")
echo "$runner"
run() {
    TWINOPS_HOME="$home" PYTHONPATH="$code/workflows:$code/module_utils" "$@"
}
run setsid "$runner/bin/python" -m toolbox.standby < /dev/null > /dev/null 2>&1 &
run "$runner/bin/python" -m toolbox.runner.housekeeping ||
    echo "prepare: nothing was cleared away, see above" >&2
result=0
for lock in "$code/workflows/requirements.txt" "$code"/workflows/*/requirements.txt; do
    [ ! -f "$lock" ] || "$home/bin/environment" "$lock" || result=1 # one that cannot be built does not keep the others
done
exit "$result"
SH

prepare=(setsid "$home/bin/prepare" "$GIT_REF")
if [ "$owner" != "$(id -un)" ]; then
    chown "$owner": "$home" "$home"/* "$home"/bin/*
    prepare=(sudo -u "$owner" -H "${prepare[@]}")
fi
"${prepare[@]}" < /dev/null > "$home/log/prepare.log" 2>&1 &
echo "twinops: $home is ready; environments are being built, see $home/log/prepare.log"
