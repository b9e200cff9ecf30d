#!/bin/bash
# DeepSeek-R1 with TensorRT-LLM by hand: the engine's YAML is written first, then each role is started through MPI.
cat > /tmp/prefill.yaml <<EOF
tensor_parallel_size: 8
moe_expert_parallel_size: 8
enable_attention_dp: true
max_batch_size: 16
max_num_tokens: 8448
max_seq_len: 8448
disable_overlap_scheduler: true
cuda_graph_config: null
moe_config: {backend: CUTLASS}
kv_cache_config: {dtype: fp8, enable_block_reuse: false, free_gpu_memory_fraction: 0.6}
cache_transceiver_config: {backend: UCX, max_tokens_in_buffer: 8448}
EOF
cat > /tmp/decode.yaml <<EOF
tensor_parallel_size: 16
moe_expert_parallel_size: 16
enable_attention_dp: true
max_batch_size: 64
max_num_tokens: 64
max_seq_len: 9472
cuda_graph_config: {enable_padding: true, max_batch_size: 64}
moe_config: {backend: CUTLASS}
kv_cache_config: {dtype: fp8, enable_block_reuse: false, free_gpu_memory_fraction: 0.8}
cache_transceiver_config: {backend: UCX, max_tokens_in_buffer: 8448}
EOF
export TRTLLM_ENABLE_PDL=1
MODEL=/data/models/DeepSeek-R1
trtllm-llmapi-launch python3 -m dynamo.trtllm --model-path $MODEL --served-model-name deepseek-ai/DeepSeek-R1 \
  --disaggregation-mode prefill --extra-engine-args /tmp/prefill.yaml &
mpirun -n 16 -H decode-0:8,decode-1:8 -x NCCL_DEBUG=WARN trtllm-llmapi-launch python3 -m dynamo.trtllm \
  --model-path $MODEL --served-model-name deepseek-ai/DeepSeek-R1 --disaggregation-mode decode \
  --extra-engine-args /tmp/decode.yaml &
wait
