#!/usr/bin/env bash
# Shows a remote at work: what this workspace holds is pushed to an S3 server, cloned, pulled elsewhere, and needs no stage to run
# there; then MLflow is filled from it. In a temporary folder, gone afterwards; nothing here is changed. Raw images (thousands of
# files) and networks (a gigabyte) stay out, so that it takes less than a minute: whoever needs them pulls them too.
# Where nothing was reproduced yet, the data of the smoke profile, made in that folder, stands for the study.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
mkdir -p .citylens
demo=$(mktemp -d "$here/.citylens/demo.XXXXXX") # on the disk of the cache, so that what is in it can be linked
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

# A copy of the workspace with the workspace's cache, as it is now, committed or not.
git clone --quiet "$here" "$demo/first"
cd "$demo/first"
git -C "$here" diff --binary HEAD | git apply --allow-empty
printf "[cache]\n    dir = %s\n" "$here/.dvc/cache" >.dvc/config.local
stages="prepare explain segment measure compare embed report"
if ! dvc checkout --quiet 2>/dev/null; then
	echo "nothing reproduced here yet: the smoke profile's data instead"
	stages=prepare
	rm .dvc/config.local
	rm -f dvc.lock
	citylens use smoke
	dvc repro $stages
fi

say dvc remote add --default s3 s3://study
say dvc remote modify s3 endpointurl "http://127.0.0.1:$port"

git add --all
git -c user.name=demo -c user.email=demo@example.org commit --quiet --message "what is here, and where its data lies"
say dvc push $stages
say git clone --quiet "$demo/first" "$demo/second"
say cd "$demo/second"
say dvc pull $stages
say dvc repro --allow-missing $stages
say citylens sync
