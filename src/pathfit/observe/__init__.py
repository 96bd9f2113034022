"""observe: written soon."""
