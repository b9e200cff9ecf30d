"""Makes configs/releases/<version> from the packages of a Dynamo release (tools/release)."""
