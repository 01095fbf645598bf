"""The verdict of parity as files (`files`), and as a part of the report (`shown`)."""
