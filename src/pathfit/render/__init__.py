"""render: written soon."""
