"""probe: written soon."""
