#!/bin/bash
# DeepSeek-R1 on H20: prefill TP8, decode EP16 with spare experts. One command for each host.
MODEL_PATH=${MODEL_PATH:-/data/models/DeepSeek-R1}
COMMON=(--model-path "$MODEL_PATH" --served-model-name deepseek-ai/DeepSeek-R1 --attention-backend fa3
        --page-size 64 --disaggregation-transfer-backend mooncake)

start_prefill() {
  python3 -m sglang.launch_server "${COMMON[@]}" --disaggregation-mode prefill --tp 8 \
    --chunked-prefill-size 16384 --mem-fraction-static 0.85 --port 30000
}

export SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK=128
for rank in 0 1; do
  ssh decode-$rank "python3 -m sglang.launch_server --model-path $MODEL_PATH --served-model-name deepseek-ai/DeepSeek-R1 \
    --disaggregation-mode decode --disaggregation-transfer-backend mooncake --tp 16 --dp 16 --enable-dp-attention \
    --nnodes 2 --node-rank $rank --dist-init-addr decode-0:5000 --moe-a2a-backend deepep --deepep-mode low_latency \
    --attention-backend fa3 --page-size 64 --cuda-graph-max-bs 64 --max-running-requests 1024 --mem-fraction-static 0.85 \
    --enable-eplb --ep-num-redundant-experts 16" &
done
wait
