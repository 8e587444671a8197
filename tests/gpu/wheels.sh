#!/usr/bin/env bash
# wheels.sh FOLDER [PYTHON]: what a machine with PyTorch, a GPU and no network needs beside it, as wheels for its Python
# (3.12 by default), about 37 MB: TransformerLens and what it imports, and this package. For tests/gpu/check.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1 python=${2:-3.12}
names="annotated-types beartype better-abc circuitsvis click datasets dill docstring_parser einops fancy-einsum filelock fsspec
  httpcore2 httpx2 huggingface_hub importlib_metadata jaxtyping joblib lazy-importer lazy-loader multiprocess platformdirs plotly
  pydantic pydantic_core rich safetensors tokenizers tqdm transformer-lens transformers truststore typeguard typer
  typing-inspection typing_extensions tyro wadler_lindig xxhash zipp"
pinned=$(for name in $names; do grep -i "^${name//[-_]/[-_]}==" constraints.txt; done)
platforms=$(for version in 39 35 34 31 28 27 26 24 17; do echo "--platform manylinux_2_${version}_x86_64"; done)
mkdir -p "$folder"
# shellcheck disable=SC2086
python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$python" $platforms \
  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$folder" $pinned
python3 -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$(grep '^transformers-stream-generator==' constraints.txt)" .
du -sh "$folder"
