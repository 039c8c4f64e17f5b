#!/bin/bash
# The same load, of a file without bad rows.
exec $SQLKIT load "$REFERENCE_FILE" --into bench.price --key product_id,store_id --policy update
