"""A backend: any host with SSH."""
