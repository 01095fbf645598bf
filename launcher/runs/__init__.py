"""Runs and attempts: their states, their record on disk, the index over them, and what drives one to its end."""
