"""The command line. One module a command: it parses, calls, prints; no logic lives here."""
