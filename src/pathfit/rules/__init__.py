"""rules: written soon."""
