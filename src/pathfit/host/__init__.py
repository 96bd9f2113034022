"""host: written soon."""
