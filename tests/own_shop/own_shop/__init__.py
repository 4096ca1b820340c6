"""Another shop, with its own product model, that has lifted `inventory`."""
