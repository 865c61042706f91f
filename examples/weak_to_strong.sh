#!/usr/bin/env bash
# Weak-to-strong reasoning on a laptop, step by step: about four minutes on two cores, offline.
# Run it from the repository after `make demo`, or anywhere with strop on the PATH.
set -euo pipefail
PATH="$PWD/.venv/bin:$PATH"

# A recipe of your own, from a shipped one. Edit it: models, questions, seeds.
strop recipes copy weak_to_strong/demo mine.yaml

# Where every value comes from; then two-minute checks, and what the run will need. Neither spends anything.
strop config mine.yaml --set seeds=[3]
strop doctor mine.yaml --set seeds=[3]
strop plan mine.yaml --set seeds=[3]

# The run. Stop it with Ctrl-C, or pull the plug: the same command continues.
strop run mine.yaml --set seeds=[3] --name story

# What came out, and what one number was made from, back to the model's own words.
strop show story
strop trace story gap_recovered.dpo
