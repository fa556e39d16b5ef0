#!/bin/sh
# Starts the bootstrap with whatever Python the image has. It is the job's first program, so it only ever replaces itself.
# Usage: sh start.sh ARGUMENTS-OF-THE-BOOTSTRAP

# One stream for all that is said: of two, each reader makes an order of its own, and the last value of a metric may not
# be the one that was printed last.
exec 2>&1

# AWS's GPU images need newer CUDA libraries on hosts with an older driver. Their script is written for bash: another
# shell's `echo` would spoil its comparison of versions.
compat=/usr/local/bin/start_cuda_compat.sh
if [ -f "$compat" ]; then
    if [ -z "${BASH_VERSION:-}" ] && command -v bash >/dev/null 2>&1; then
        exec bash "$0" "$@"
    fi
    . "$compat"
fi

# -S: the bootstrap needs nothing of site-packages, and in a large image looking there takes longer than all the rest.
for python in python3 python; do
    if command -v "$python" >/dev/null 2>&1; then
        exec "$python" -S "${0%/*}/worker_toolkit.zip" "$@"
    fi
done

message="ssm: this image has neither python3 nor python on its PATH ($PATH): take an image with Python 3.8 or newer."
echo "$message"
if [ -d "${LOCAL_SAGEMAKER_ROOT:-}/opt/ml/input/config" ]; then
    echo "$message" >"${LOCAL_SAGEMAKER_ROOT:-}/opt/ml/output/failure"
elif [ -d "${LOCAL_SAGEMAKER_ROOT:-}/opt/ml/config" ]; then
    echo "$message" >"${LOCAL_SAGEMAKER_ROOT:-}/opt/ml/output/message"
fi
exit 127
