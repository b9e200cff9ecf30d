"""What a change costs the users of a deployment: streams at all times, every request judged by its tokens."""
