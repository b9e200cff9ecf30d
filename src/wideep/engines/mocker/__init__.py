"""`dynamo.mocker`: Dynamo's own simulated engine."""
