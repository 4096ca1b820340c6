"""A shop that isn't ours, with a product model of its own: `inventory` lifted into it."""
