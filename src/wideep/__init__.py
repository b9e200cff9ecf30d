"""Wide Expert Parallel deployments with NVIDIA Dynamo, from an inventory."""

__version__ = "0.1.0"
