# Evaluates the model against the data that it was trained with.
set -eu
echo started
until [ -e "$GATES/$SSM_PROJECT.$SSM_TASK" ]; do sleep 0.02; done
cmp "$SM_CHANNEL_MODEL/model.txt" "$SM_CHANNEL_DATA/clean.csv"
echo "lines=$(wc -l <"$SM_CHANNEL_MODEL/model.txt")"
cp "$SM_CHANNEL_MODEL/model.txt" "$SM_OUTPUT_DATA_DIR/evaluated.txt"
