"""Reads what a training left: its table, its files, its record."""
