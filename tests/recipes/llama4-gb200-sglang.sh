#!/bin/bash
# Llama 4 Maverick over two trays of GB200.
for NODE_RANK in 0 1; do
  python -m dynamo.sglang --model-path meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 --tp-size 8 --ep-size 8 \
    --nnodes 2 --node-rank ${NODE_RANK} --dist-init-addr "${HEAD_ADDR}:29500" --attention-backend trtllm_mha \
    --context-length 131072 --mem-fraction-static 0.8 --chunked-prefill-size 8192 &
done
