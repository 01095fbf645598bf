"""A backend: Google Cloud machines."""
