"""SGLang behind Dynamo."""
