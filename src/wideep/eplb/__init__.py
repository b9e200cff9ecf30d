"""Expert placement: what a recorded load says of balance, and where copies of experts would balance it."""
