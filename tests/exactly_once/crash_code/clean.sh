# Prepares the data: sorts all lines of the channel `raw`.
set -eu
echo started
until [ -e "$GATES/$SSM_PROJECT.$SSM_TASK" ]; do sleep 0.02; done
sort "$SM_CHANNEL_RAW"/* >"$SM_OUTPUT_DATA_DIR/clean.csv"
