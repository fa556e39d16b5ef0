# The job of `waiting_flow.py`: says that it has started, then waits in the directory $1 for its gate.
set -eu
echo started
touch "$1/started"
until [ -e "$1/gate" ]; do sleep 0.05; done
echo value=7
echo 7 >"$SM_MODEL_DIR/it"
