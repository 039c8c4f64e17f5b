#!/bin/bash
# The same rows in one file.
FILE=$REFERENCE_FILE exec bash "$HERE/references/merge.sh"
