"""Words for people: status, plans, causes."""
