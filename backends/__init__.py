"""Built-in backends. `launcher` never imports this package: they are found as entry points, like anybody's."""
