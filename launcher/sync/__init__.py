"""Bringing outputs back: by manifest, verified, whole or not at all."""
