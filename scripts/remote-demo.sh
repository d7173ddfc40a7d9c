#!/usr/bin/env bash
# Show a remote at work on an S3 server of its own: push the workspace's data, clone, pull, run no stage, fill MLflow.
# All of it happens in a temporary folder; nothing here changes. Raw images (thousands of files) and networks (a gigabyte) are
# left out, so that it takes less than a minute. A workspace without results shows the smoke profile's data instead.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
mkdir -p .citylens
demo=$(mktemp -d "$here/.citylens/demo.XXXXXX") # on the cache's disk, so that DVC can link its files
server=
stop() {
	if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
	rm -rf "$demo"
}
trap stop EXIT
say() { printf '\n\033[1m$ %s\033[0m\n' "$*" && "$@"; }

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
AWS_ACCESS_KEY_ID=demo
AWS_SECRET_ACCESS_KEY=$(python -c 'import secrets; print(secrets.token_hex(16))')
mkdir -p "$demo/s3/study"
RCLONE_AUTH_KEY="\"$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY\"" \
	rclone serve s3 --addr "127.0.0.1:$port" --config /dev/null "$demo/s3" 2>"$demo/log" &
server=$!
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=us-east-1 AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
export CITYLENS_TRACKING=sqlite:///mlflow.db

# A copy of the workspace as it is now, committed or not, that uses the workspace's cache.
git clone --quiet "$here" "$demo/first"
cd "$demo/first"
git -C "$here" diff --binary HEAD | git apply --allow-empty
printf "[cache]\n    dir = ../../../../.dvc/cache\n" >.dvc/config.local # relative: DVC would read a # of the path as a comment
stages=(prepare explain segment measure compare embed report)
if ! dvc checkout --quiet 2>/dev/null; then
	echo "nothing reproduced here yet: the smoke profile's data instead"
	stages=(prepare)
	rm .dvc/config.local
	rm -f dvc.lock
	citylens use smoke
	dvc repro "${stages[@]}"
fi

say dvc remote add --default s3 s3://study
say dvc remote modify s3 endpointurl "http://127.0.0.1:$port"

git add --all
git -c user.name=demo -c user.email=demo@example.org commit --quiet --message "what is here, and where its data lies"
say dvc push "${stages[@]}"
say git clone --quiet "$demo/first" "$demo/second"
say cd "$demo/second"
say dvc pull "${stages[@]}"
say dvc repro --allow-missing "${stages[@]}"
say citylens sync
