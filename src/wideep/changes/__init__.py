"""A change: what runs on hosts, what of it differs from the plan."""
