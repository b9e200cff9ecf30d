#!/bin/bash
# A long prompt is computed in a pipeline of four hosts of four GPUs; decode spreads experts over eight.
MODEL=(--model-path /data/models/DeepSeek-R1-0528 --served-model-name deepseek-ai/DeepSeek-R1-0528)
for r in $(seq 0 3); do
  python3 -m dynamo.sglang "${MODEL[@]}" --disaggregation-mode prefill --tp-size 4 --pp-size 4 --nnodes 4 --node-rank $r \
    --dist-init-addr $PREFILL:5000 --chunked-prefill-size 32768 --context-length 140000 --mem-fraction-static 0.85 --page-size 64
done
for r in {0..1}; do
  python3 -m dynamo.sglang "${MODEL[@]}" --disaggregation-mode decode --tp-size 8 --dp-size 8 --enable-dp-attention --ep-size 8 \
    --nnodes 2 --node-rank $r --dist-init-addr $DECODE:5000 --context-length 140000 --cuda-graph-max-bs 32 --page-size 64 \
    --mem-fraction-static 0.85
done
