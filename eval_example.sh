#!/usr/bin/env bash
# Evaluate model selection with the rules (no LLM, no network, no GPU) on the bench that comes with the repository.
# Results land in results/: a record (.jsonl), figures (.json), a page to read (.html) and a log.
# Killed half-way? Run it again: --resume goes on where the record ends.
set -euo pipefail
cd "$(dirname "$0")"

python evaluate.py \
  --test_file_path model_selection_test_case.jsonl \
  --test_pattern C2F \
  --model rules \
  --log_to_file \
  --resume "$@"
