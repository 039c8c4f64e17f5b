#!/usr/bin/env bash
# A small file: psql's \copy, as it stands.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 -c "\\copy bench.price from program '$GUNZIP \"$FILE\"' (format csv, header)"
