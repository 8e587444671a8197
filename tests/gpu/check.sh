#!/usr/bin/env bash
# check.sh WHEELS [WORDS]: on a machine with PyTorch and a CUDA device, and no network: the same numbers as the processor,
# runs that go on bit for bit, and how fast. WHEELS is the folder that wheels.sh made; WORDS go to tests/gpu/check.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=$1 site=$(mktemp -d)
shift
# Without their requirements: torch is the machine's own, and the check says which.
python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
export PYTHONPATH="$PWD:$PWD/tests:$site${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 WANDB_MODE=disabled
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
if [ "${1:-}" = full-size ]; then
  shift
  exec python3 tests/gpu/full_size.py "$@"
fi
exec python3 tests/gpu/check.py "$@"
