"""TensorRT-LLM behind Dynamo."""
