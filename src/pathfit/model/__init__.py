"""model: written soon."""
