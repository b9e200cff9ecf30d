# One aggregated server of TensorRT-LLM, without Dynamo; its engine YAML lies beside it.
trtllm-serve serve nvidia/DeepSeek-R1-0528-FP4 --host 0.0.0.0 --port 8000 --tp_size 8 --ep_size 8 --max_batch_size 256 \
  --max_num_tokens 8192 --trust_remote_code --extra_llm_api_options /config/r1-trtllm-serve.yml
