"""What checks a backend: the conformance suite and its helpers, shipped so that third parties' backends run it too."""
