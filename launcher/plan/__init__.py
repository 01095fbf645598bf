"""What can be said of a run before it starts: its hazards (`hazards`), its cost (`estimate`), both at once (`plan`)."""
