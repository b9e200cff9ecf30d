"""Engines: one file each, one interface (see `base`)."""
