"""cli: written soon."""
