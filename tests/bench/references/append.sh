#!/usr/bin/env bash
# Append to a table: psql's \copy, as it stands.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 <<SQL
\copy bench.price from program '$GUNZIP "$FILE"' (format csv, header)
SQL
