#!/bin/bash
# Prefill and decode on one host, each on GPUs of its own, with a frontend.
set -euo pipefail
trap 'kill 0' EXIT
python3 -m dynamo.frontend --http-port 8000 --router-mode kv &
export MODEL="deepseek-ai/DeepSeek-V2-Lite"
CUDA_VISIBLE_DEVICES=0,1 python3 -m dynamo.sglang --model-path "$MODEL" --served-model-name "$MODEL" --tp 2 \
  --page-size 64 --trust-remote-code --disaggregation-mode prefill --disaggregation-bootstrap-port 12345 \
  --disaggregation-transfer-backend nixl --host 0.0.0.0 &
CUDA_VISIBLE_DEVICES=2,3 python3 -m dynamo.sglang --model-path "$MODEL" --served-model-name "$MODEL" --tp 2 \
  --page-size 64 --trust-remote-code --disaggregation-mode decode --disaggregation-transfer-backend nixl --host 0.0.0.0
