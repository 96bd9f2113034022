"""remedies: written soon."""
