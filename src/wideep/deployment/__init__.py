"""What a checked inventory becomes: who runs what, where, with which addresses and ports."""
